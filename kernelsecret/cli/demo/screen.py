"""What people see of the demonstration: one line for each thing that happened, as it happens, and a closing table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kernelsecret.cli.demo.figures import LEFT, ROTATIONS, Figures

BAR_MS_A_BLOCK = 0.5
BAR_BLOCKS = 30
ENGINES = {
    "iter": "its bytes are only in the kernel (BPF maps), which judges every reader",
    "tmpfs": "it is a file in memory, replaced at each rotation; readers are not judged",
}


class Screen:
    """Says it on `console`; one that is quiet says nothing."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def title(self) -> None:
        """What this is, in two lines."""
        self._say()
        self._say("[bold]KernelSecret[/]: a secret changes under two running programs, in milliseconds.")
        self._say("[dim]No restart, no sidecar, no change to the programs: they open a file and read it.[/]")

    def without_root(self, why: str) -> None:
        """What cannot be shown, before anything else is."""
        self._say(f"[yellow]{escape(why)}[/]")

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Something that takes a moment."""
        self.heading(what)
        with self._console.status("[dim]...[/]"):
            yield

    def heading(self, what: str) -> None:
        """The next part."""
        self._say()
        self._say(f"[bold cyan]{escape(what)}[/]")

    def engine(self, engine: str, reason: str, seconds: float) -> None:
        """The agent is ready."""
        self._good(f"ready after {seconds:.1f} s; the secret is served by the engine [bold]{engine}[/]:")
        self._say(f"    [dim]{ENGINES.get(engine, '')}[/]")
        if reason:
            self._say(f"    [yellow]{escape(reason)}[/]")

    def published(self, milliseconds: float) -> None:
        """The volume is there."""
        self._good(f"volume published in {milliseconds:.1f} ms, asked for over CSI as kubelet does")

    def programs(self, pod: str, user: str) -> None:
        """Both programs have read the first version."""
        self._good(f"pod {pod}: a Python program and a shell script, always reading")
        self._good(f"both see the user [bold]{user}[/] in /var/run/secrets/database")

    def rotation(self, number: int, user: str, milliseconds: float) -> None:
        """Both programs have seen a new version."""
        bar = "█" * max(1, min(BAR_BLOCKS, round(milliseconds / BAR_MS_A_BLOCK)))
        self._say(f"  {number:>3}/{ROTATIONS}  {user}  seen after [bold]{milliseconds:6.2f} ms[/]  [green]{bar}[/]")

    def theft(self, who: str, *, refused: bool) -> None:
        """An attempt is over."""
        word = "[green]✓ refused[/]" if refused else "[bold red]✗ NOT REFUSED[/]"
        self._say(f"  {word}  {escape(who)}")

    def not_shown(self, attempts: Iterable[str]) -> None:
        """Without BPF nobody is judged, and nothing is pretended."""
        self.heading("Not shown: who is refused")
        self._say("  [yellow]The engine tmpfs cannot judge a reader, so these were not even tried:[/]")
        for who in attempts:
            self._say(f"  [yellow]·[/] {escape(who)}")

    def killed(self, reads: int, back_ms: float, user: str) -> None:
        """The agent was dead for a while and is back."""
        self._good(f"without an agent the programs read [bold]{reads:,}[/] times more")
        self._good(f"a new agent was ready after {back_ms / 1000:.1f} s and took the volumes over")
        self._good(f"the change made meanwhile has arrived: [bold]{user}[/]")

    def close(self, figures: Figures) -> None:
        """The figures, and what went wrong."""
        self._say()
        self._console.print(table_of(figures))
        for problem in figures.wrong():
            self._say(f"[bold red]✗[/] {escape(problem)}")
        if figures.engine == "tmpfs":
            self._say(
                "[yellow]Not shown here: refusals, and secrets that are in the kernel only. As root, with BPF.[/]"
            )
        if not any(problem.startswith(LEFT) for problem in figures.problems):
            self._say("[dim]Everything was removed again.[/]")

    def _good(self, markup: str) -> None:
        self._say(f"  [green]✓[/] {markup}")

    def _say(self, markup: str = "") -> None:
        self._console.print(markup, highlight=False)


def table_of(figures: Figures) -> Table:
    """The closing table."""
    table = Table(show_header=False, title="What was measured", title_justify="left", title_style="bold")
    table.add_column()
    table.add_column(justify="right", style="bold")
    for name, value in _rows(figures):
        table.add_row(name, value)
    return table


def _rows(figures: Figures) -> Iterator[tuple[str, str]]:
    yield "engine", figures.engine or "none"
    yield "rotations, from source written to first new byte read", str(len(figures.latencies_ms))
    yield "    median", _ms(figures.p50_ms)
    yield "    slowest", _ms(figures.p99_ms)
    yield "volume published over CSI", _ms(figures.publish_ms)
    yield "reads by the two programs", f"{figures.reads:,}"
    yield "    failed", str(figures.failed_reads)
    yield "    while there was no agent", f"{figures.reads_without_agent:,}"
    yield "programs restarted", str(figures.restarts)
    yield "agent killed (kill -9) and back", _ms(figures.back_ms) if figures.agent_killed else "not shown"
    shown = f"{sum(figures.refused.values())} of {len(figures.refused)}"
    yield "thieves refused", shown if figures.engine == "iter" else "not shown: tmpfs cannot"


def _ms(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} ms"
