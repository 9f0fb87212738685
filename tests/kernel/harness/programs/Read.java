import java.io.FileInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Properties;

/** Prints a file, read in the way that the first argument names. */
public class Read {
    public static void main(String[] args) throws Exception {
        try (var stream = new FileInputStream(args[1])) {
            switch (args[0]) {
                case "string" -> System.out.println(Files.readString(Path.of(args[1])));
                case "all" -> System.out.println(new String(stream.readAllBytes()));
                case "read" -> {
                    var buffer = new byte[8192];
                    System.out.println(new String(buffer, 0, stream.read(buffer)));
                }
                case "properties" -> {
                    var properties = new Properties();
                    properties.load(stream);
                    System.out.println(properties.stringPropertyNames());
                }
                default -> throw new IllegalArgumentException(args[0]);
            }
        }
    }
}
