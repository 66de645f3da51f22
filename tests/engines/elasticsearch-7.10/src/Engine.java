import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

import org.elasticsearch.analysis.common.CommonAnalysisPlugin;
import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.index.mapper.MapperExtrasPlugin;
import org.elasticsearch.index.rankeval.RankEvalPlugin;
import org.elasticsearch.index.reindex.ReindexPlugin;
import org.elasticsearch.join.ParentJoinPlugin;
import org.elasticsearch.node.InternalSettingsPreparer;
import org.elasticsearch.node.Node;
import org.elasticsearch.painless.PainlessPlugin;
import org.elasticsearch.percolator.PercolatorPlugin;
import org.elasticsearch.plugins.Plugin;
import org.elasticsearch.script.mustache.MustachePlugin;
import org.elasticsearch.search.aggregations.matrix.MatrixAggregationPlugin;
import org.elasticsearch.transport.Netty4Plugin;

/**
 * One Elasticsearch node inside this JVM, HTTP on 127.0.0.1 only, until SIGTERM.
 * It loads the server's modules by name, since the stock start-up code refuses to run as root.
 * Arguments: PORT DATA_DIR [setting=value ...]
 */
public final class LocalEngine extends Node {

    private static final List<Class<? extends Plugin>> MODULES = List.of(
        Netty4Plugin.class,
        CommonAnalysisPlugin.class,
        PainlessPlugin.class,
        MapperExtrasPlugin.class,
        ReindexPlugin.class,
        ParentJoinPlugin.class,
        PercolatorPlugin.class,
        MatrixAggregationPlugin.class,
        MustachePlugin.class,
        RankEvalPlugin.class
    );

    private LocalEngine(Settings settings) {
        super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "local"), MODULES, false);
    }

    public static void main(String[] args) throws Exception {
        if (args.length < 2) {
            System.err.println("arguments: PORT DATA_DIR [setting=value ...]");
            System.exit(2);
        }
        Path home = Path.of(args[1]).toAbsolutePath();
        Settings.Builder settings = Settings.builder()
            .put("cluster.name", "local")
            .put("node.name", "local")
            .put("path.home", home.toString())
            .put("path.data", home.resolve("data").toString())
            .put("discovery.type", "single-node")
            .put("network.host", "127.0.0.1")
            .put("http.port", args[0])
            .put("transport.port", "0")
            .put("cluster.routing.allocation.disk.threshold_enabled", false);
        for (int i = 2; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }

        LogConfigurator.registerErrorListener();
        Node node = new LocalEngine(settings.build());
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
