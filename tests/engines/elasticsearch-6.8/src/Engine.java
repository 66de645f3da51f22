import java.nio.file.Path;
import java.util.concurrent.CountDownLatch;

import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.Node;

/**
 * One Elasticsearch node inside this JVM, HTTP on 127.0.0.1 only, until SIGTERM. It loads the modules
 * of the unpacked server, but skips the stock start-up code, which refuses to run as root.
 * Arguments: PORT DATA_DIR [setting=value ...]; the property engine.home names the unpacked server.
 */
public final class LocalEngine {

    public static void main(String[] args) throws Exception {
        if (args.length < 2) {
            System.err.println("arguments: PORT DATA_DIR [setting=value ...]");
            System.exit(2);
        }
        Path data = Path.of(args[1]).toAbsolutePath();
        Settings.Builder settings = Settings.builder()
            .put("cluster.name", "local")
            .put("node.name", "local")
            .put("path.home", System.getProperty("engine.home"))
            .put("path.data", data.resolve("data").toString())
            .put("path.logs", data.resolve("logs").toString())
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", args[0])
            .put("transport.tcp.port", "0")
            .put("cluster.routing.allocation.disk.threshold_enabled", "false");
        for (int i = 2; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }

        Node node = new Node(settings.build()) {
            @Override
            protected void registerDerivedNodeNameWithLogger(String name) {
                LogConfigurator.setNodeName(name);
            }
        };
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
        node.start();
        System.out.println("ready on http://127.0.0.1:" + args[0]);
        stopped.await();
    }
}
