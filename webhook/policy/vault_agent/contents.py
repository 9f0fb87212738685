"""What a file shows, as a template of the Vault Agent: the same bytes as `kernelsecret.shapes` renders, or an error.

All is done inside of actions, with every name as an escaped constant, so that nothing of an interceptor is ever read as
a template. What the agent would show with other bytes (a number in a JSON value loses digits, bytes that are no text)
ends in an error of the template, and the file stays as it was. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from kernelsecret.filters import MAX_LINES
from kernelsecret.interceptor import Decode, FileSpec, VaultSource
from kernelsecret.json_pointer import index_of, steps_of
from kernelsecret.problems import quoted
from kernelsecret.templates import ALL, parse
from webhook.policy.vault_agent.go_text import go_string, read_path

# A value of Vault as text: a string as it is, anything else as compact JSON. Go writes two characters in JSON that
# others leave as they are; a raw \x01, which JSON never has, keeps escaped backslashes apart from their escapes.
_JSON: Final = (
    r'toUnescapedJSON|replaceAll `\\` "\x01"|replaceAll `\u2028` "\u2028"|replaceAll `\u2029` "\u2029"'
    r'|replaceAll "\x01" `\\`'
)
_BLANKS: Final = r'" \t\r\n"'
_NO_BLANKS: Final = " | ".join(rf'replaceAll "{blank}" ""' for blank in (" ", r"\t", r"\r", r"\n"))
_UNREADABLE: Final = r'sprig_contains "\ufffd"'


def contents(source: VaultSource, file: FileSpec, most: int, needed: Sequence[str]) -> str:
    """The template of one file. `most` is how many bytes it may have, `needed` the keys that the files of its secret
    show: where one is missing none of them changes. The file's shape is a good one."""
    return "".join(("{{with ", _asked(source), "}}", *_data(source, file, needed), *_shown(file, most), "{{end}}"))


def keys_of(file: FileSpec) -> set[str]:
    """The keys that a file needs."""
    if not file.template:
        return {file.key}
    return {part.key for part in parse(file.template) if not isinstance(part, str)} - {ALL}


def _asked(source: VaultSource) -> str:
    if not source.parameters:
        return f"secret {go_string(read_path(source.path, source.version))}"
    pairs = " ".join(go_string(f"{name}={value}") for name, value in sorted(source.parameters.items()))
    return f"secret {go_string(source.path)} {pairs}"


def _data(source: VaultSource, file: FileSpec, needed: Sequence[str]) -> Iterator[str]:
    """Sets `$d` to the keys: those of KV v2 lie one step further down. One whose value is null is none."""
    yield "{{$d := .Data}}"
    if "/data/" in source.path and not source.parameters:
        yield (
            '{{with index $d "metadata"}}{{if sprig_kindIs "map" .}}{{if sprig_hasKey . "created_time"}}'
            '{{$d = index $d "data"}}{{end}}{{end}}{{end}}'
        )
    yield f"{{{{$f := {go_string(f'file {quoted(file.path)}: ')}}}}}"
    yield f'{{{{if not (sprig_kindIs "map" $d)}}}}{_fail("the secret has no keys")}{{{{end}}}}'
    keys = " ".join(go_string(key) for key in needed)
    yield (
        f'{{{{range $k := sprig_list {keys}}}}}{{{{if eq (printf "%T" (index $d $k)) "<nil>"}}}}'
        """{{printf "%sthe secret has no key '%s'" $f $k|sprig_fail}}{{end}}{{end}}"""
    )
    yield '{{$x := ""}}'
    if file.template or file.json_pointer:
        yield '{{$o := ""}}{{$v := ""}}{{$l := ""}}'


def _shown(file: FileSpec, most: int) -> Iterator[str]:
    """Makes what is shown in `$x`, of a template in `$o`, and shows it as a whole."""
    if file.template:
        for part in parse(file.template):
            if isinstance(part, str):
                yield f'{{{{$o = printf "%s%s" $o {go_string(part)}}}}}'
                continue
            filters = part.filters
            if part.key == ALL:
                yield _all()
                filters = filters[1:]
            else:
                yield _key(part.key)
            for name in filters:
                yield from _filtered(name, str(part))
            yield '{{$o = printf "%s%s" $o $x}}'
    else:
        yield _key(file.key)
        if file.json_pointer:
            yield from _pointed(file)
        if file.decode is Decode.BASE64:
            yield from _filtered("base64decode", file.key)
    shown = "$o" if file.template else "$x"
    yield f"{{{{if gt (len {shown}) {most}}}}}{_fail(f'makes more than {most} bytes')}{{{{end}}}}{{{{{shown}}}}}"


def _key(key: str) -> str:
    """Sets `$x` to the text of a key."""
    return (
        f"{{{{$x = index $d {go_string(key)}}}}}"
        f'{{{{if ne (printf "%T" $x) "string"}}}}{{{{$x = $x|{_JSON}}}}}{{{{end}}}}'
    )


def _all() -> str:
    """Sets `$x` to an object of all keys; each value is a string."""
    return (
        '{{$l = sprig_dict}}{{range $k, $e := $d}}{{if eq (printf "%T" $e) "string"}}{{$_ := sprig_set $l $k $e}}'
        f'{{{{else if ne (printf "%T" $e) "<nil>"}}}}{{{{$_ := sprig_set $l $k ($e | {_JSON})}}}}{{{{end}}}}{{{{end}}}}'
        f"{{{{$x = $l | {_JSON}}}}}"
    )


def _filtered(name: str, at: str) -> Iterator[str]:
    """Sets `$x` to what a filter makes of it."""
    if name == "base64":
        yield "{{$x = base64Encode $x}}"
    elif name == "base64decode":
        yield f"{{{{$x = $x | {_NO_BLANKS} | base64Decode}}}}"
    elif name == "trim":
        yield f"{{{{$x = sprig_trimAll {_BLANKS} $x}}}}"
    elif name == "json":
        # What is not UTF-8 does not come back from JSON as it was.
        why = f"{quoted(at)}: filter json: is not UTF-8 text"
        yield f"{{{{if ne (toJSON $x | parseJSON) $x}}}}{_fail(why)}{{{{end}}}}"
        yield f"{{{{$x = $x | {_JSON}}}}}"
    else:
        yield from _lines(at)


def _lines(at: str) -> Iterator[str]:
    kind, many = f"{quoted(at)}: filter lines: is no JSON list", f"{quoted(at)}: filter lines: has too many items"
    yield "{{$v = parseJSON $x}}"
    yield f'{{{{if not (sprig_kindIs "slice" $v)}}}}{_fail(kind)}{{{{end}}}}'
    yield f"{{{{if gt (len $v) {MAX_LINES}}}}}{_fail(many)}{{{{end}}}}"
    yield "{{$l = sprig_list}}{{range $e := $v}}"
    yield _text("$e", f"{quoted(at)}: filter lines: an item")
    yield r'{{$l = sprig_append $l ($x | regexReplaceAll "\\n+\\z" "")}}{{end}}{{$x = sprig_join "\n" $l}}'


def _pointed(file: FileSpec) -> Iterator[str]:
    """Sets `$x` to the part of a JSON value that a pointer names."""
    at = f"jsonPointer {quoted(file.json_pointer)}"
    yield "{{$v = parseJSON $x}}"
    for step in steps_of(file.json_pointer):
        fail = _fail(f"{at}: there is no {quoted(step)}")
        name, number = go_string(step), index_of(step)
        yield f'{{{{if sprig_kindIs "map" $v}}}}{{{{if not (sprig_hasKey $v {name})}}}}{fail}{{{{end}}}}'
        yield f"{{{{$v = index $v {name}}}}}"
        if number is not None:
            yield f'{{{{else if sprig_kindIs "slice" $v}}}}{{{{if ge {number} (len $v)}}}}{fail}{{{{end}}}}'
            yield f"{{{{$v = index $v {number}}}}}"
        yield f"{{{{else}}}}{fail}{{{{end}}}}"
    yield _text("$v", at)


def _text(name: str, at: str) -> str:
    """Sets `$x` to a part of a JSON value, where the agent has not lost how it was written."""
    lost = _fail(f"{at}: is no text, and Vault Agent does not keep how else it was written")
    half = _fail(f"{at}: is not JSON of whole characters")
    return (
        f'{{{{if sprig_kindIs "string" {name}}}}}{{{{if {_UNREADABLE} {name}}}}}{half}{{{{end}}}}{{{{$x = {name}}}}}'
        f'{{{{else if sprig_kindIs "bool" {name}}}}}{{{{$x = print {name}}}}}'
        f'{{{{else if sprig_kindIs "invalid" {name}}}}}{{{{$x = "null"}}}}{{{{else}}}}{lost}{{{{end}}}}'
    )


def _fail(why: str) -> str:
    return f"{{{{print $f {go_string(why)}|sprig_fail}}}}"
