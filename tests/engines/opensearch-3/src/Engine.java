import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;

import org.apache.lucene.analysis.Analyzer;
import org.opensearch.Version;
import org.opensearch.analysis.common.CommonAnalysisModulePlugin;
import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.index.analysis.AnalyzerProvider;
import org.opensearch.index.analysis.PreBuiltAnalyzerProviderFactory;
import org.opensearch.index.mapper.MapperExtrasModulePlugin;
import org.opensearch.index.reindex.ReindexModulePlugin;
import org.opensearch.indices.analysis.AnalysisModule.AnalysisProvider;
import org.opensearch.join.ParentJoinModulePlugin;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.painless.PainlessModulePlugin;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.script.mustache.MustacheModulePlugin;
import org.opensearch.search.aggregations.matrix.MatrixAggregationModulePlugin;
import org.opensearch.transport.Netty4ModulePlugin;

/**
 * One OpenSearch node inside this JVM, HTTP on 127.0.0.1 only, until SIGTERM.
 * It loads the server's modules by name, since the stock start-up code refuses to run as root.
 * Arguments: PORT DATA_DIR [setting=value ...]
 */
public final class LocalEngine extends Node {

    private static final List<Class<? extends Plugin>> MODULES = List.of(
        Netty4ModulePlugin.class,
        Analysis.class,
        PainlessModulePlugin.class,
        MapperExtrasModulePlugin.class,
        ReindexModulePlugin.class,
        ParentJoinModulePlugin.class,
        MatrixAggregationModulePlugin.class,
        MustacheModulePlugin.class
    );

    /** Leaves out the analyzer that wants a dictionary not every Java runtime has: each new index tries them all. */
    public static final class Analysis extends CommonAnalysisModulePlugin {

        @Override
        public Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> getAnalyzers() {
            Map<String, AnalysisProvider<AnalyzerProvider<? extends Analyzer>>> analyzers = super.getAnalyzers();
            analyzers.remove("thai");
            return analyzers;
        }

        @Override
        public List<PreBuiltAnalyzerProviderFactory> getPreBuiltAnalyzerProviderFactories() {
            return super.getPreBuiltAnalyzerProviderFactories().stream()
                .filter(analyzer -> !analyzer.getName().equals("thai"))
                .toList();
        }
    }

    private LocalEngine(Settings settings) {
        super(
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "local"),
            MODULES.stream().map(LocalEngine::describe).toList(),
            false
        );
    }

    /** 3.x wants a description of each module, where 2.x took its class. */
    private static PluginInfo describe(Class<? extends Plugin> module) {
        String name = module.getName();
        String java = Integer.toString(Runtime.version().feature());
        return new PluginInfo(name, "from the classpath", "NA", Version.CURRENT, java, name, null, List.of(), false);
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
