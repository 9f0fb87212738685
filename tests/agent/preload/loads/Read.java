import java.io.ByteArrayOutputStream;
import java.io.FileInputStream;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.stream.Collectors;

/** Read LIVE PREFIXED MOUNTED: as read.py, in the ways of Java. */
public class Read {
    private static final int LINES = 500;
    private static final int MOST_FAULTS = 10;
    private static volatile boolean stopped;

    private static long numberOf(byte[] value) {
        var text = new String(value, StandardCharsets.ISO_8859_1);
        var line = text.substring(0, Math.min(9, text.length()));
        try {
            var number = Long.parseLong(line.substring(0, 8));
            if (text.equals(line.repeat(LINES + (int) (number % 64)))) {
                return number;
            }
        } catch (RuntimeException error) {
            // said below
        }
        throw new IllegalStateException("not one whole value: " + text.length() + " bytes, " + line.strip());
    }

    private static byte[] all(FileChannel channel, boolean byOffset) throws Exception {
        var found = new ByteArrayOutputStream();
        var part = ByteBuffer.allocate(4096);
        if (!byOffset) {
            channel.position(0);
        }
        for (;;) {
            var got = byOffset ? channel.read(part.clear(), found.size()) : channel.read(part.clear());
            if (got <= 0) {
                return found.toByteArray();
            }
            found.write(part.array(), 0, got);
        }
    }

    private static byte[] all(RandomAccessFile file) throws Exception {
        var found = new ByteArrayOutputStream();
        var part = new byte[4096];
        file.seek(0);
        for (int got; (got = file.read(part)) > 0;) {
            found.write(part, 0, got);
        }
        return found.toByteArray();
    }

    private static byte[] anew(String path) throws Exception {
        try (var stream = new FileInputStream(path)) {
            return stream.readAllBytes();
        }
    }

    private static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "'").replace("\n", " ") + '"';
    }

    public static void main(String[] args) throws Exception {
        String live = args[0], prefixed = args[1], mounted = args[2];
        var done = Thread.currentThread();
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            stopped = true;
            try {
                done.join();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            }
        }));
        var channel = FileChannel.open(Path.of(live));
        var also = FileChannel.open(Path.of(prefixed));
        var file = new RandomAccessFile(prefixed, "r");
        Map<String, Callable<byte[]>> ways = new LinkedHashMap<>();
        ways.put("Files.readAllBytes", () -> Files.readAllBytes(Path.of(live)));
        ways.put("FileChannel.position(0)", () -> all(channel, false));
        ways.put("FileInputStream.readAllBytes (prefix)", () -> anew(prefixed));
        ways.put("Files.readAllBytes (subPath)", () -> Files.readAllBytes(Path.of(mounted)));
        ways.put("FileChannel.read at 0", () -> all(also, true));
        ways.put("RandomAccessFile.seek(0)", () -> all(file));
        Map<String, Long> reads = new LinkedHashMap<>();
        List<String> faults = new ArrayList<>();
        long last = 0, versions = 0;
        try { // not taken over: the folder is not there
            Path.of(prefixed).toRealPath();
            faults.add("toRealPath: found");
        } catch (NoSuchFileException error) {
            // as it is said
        }
        System.out.println("ready");
        for (;;) {
            var isLastRound = stopped;
            for (var way : ways.entrySet()) {
                reads.merge(way.getKey(), 1L, Long::sum);
                try {
                    var number = numberOf(way.getValue().call());
                    if (number < last) {
                        faults.add(way.getKey() + ": " + number + " after " + last);
                    }
                    versions += number > last ? 1 : 0;
                    last = Math.max(last, number);
                } catch (Exception error) {
                    faults.add(way.getKey() + ": " + error);
                }
            }
            if (!Files.isReadable(Path.of(prefixed)) || Files.size(Path.of(prefixed)) % 9 != 0) {
                faults.add("Files.isReadable: not found");
            }
            if (isLastRound) {
                break;
            }
            Thread.sleep(4);
        }
        var counted = reads.entrySet().stream().map(e -> quoted(e.getKey()) + ": " + e.getValue());
        var said = faults.stream().limit(MOST_FAULTS).map(Read::quoted);
        System.out.println("{\"reads\": {" + counted.collect(Collectors.joining(", ")) + "}, \"faults\": ["
            + said.collect(Collectors.joining(", ")) + "], \"last\": " + last + ", \"versions\": " + versions + "}");
    }
}
