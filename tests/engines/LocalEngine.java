import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;

/**
 * One node inside this JVM, HTTP on 127.0.0.1 only, until SIGTERM. Each engine's folder has the class Engine that makes
 * the node: the stock start-up code refuses to run as root.
 * Arguments: PORT DATA_DIR [setting=value ...]; the property engine.home names the unpacked server.
 */
public final class LocalEngine {

    public static void main(String[] args) throws Exception {
        if (args.length < 2) {
            System.err.println("arguments: PORT DATA_DIR [setting=value ...]");
            System.exit(2);
        }
        Path home = Path.of(args[1]).toAbsolutePath();
        Map<String, String> settings = new TreeMap<>(Map.of(
            "cluster.name", "local",
            "node.name", "local",
            "path.home", home.toString(),
            "path.data", home.resolve("data").toString(),
            "path.logs", home.resolve("logs").toString(),
            "discovery.type", "single-node",
            "network.host", "127.0.0.1",
            "http.port", args[0],
            "cluster.routing.allocation.disk.threshold_enabled", "false"
        ));
        settings.putAll(Engine.SETTINGS);
        for (int i = 2; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }

        AutoCloseable node = Engine.start(settings);
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                node.close();
            } catch (Exception e) {
                e.printStackTrace();
            } finally {
                stopped.countDown();
            }
        }, "shutdown"));
        System.out.println("ready on http://127.0.0.1:" + args[0]);
        stopped.await();
    }
}
