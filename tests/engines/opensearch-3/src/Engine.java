import java.util.List;
import java.util.Map;

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

/** Names the modules, which it loads from the class path. */
final class Engine extends Node {

    static final Map<String, String> SETTINGS = Map.of("transport.port", "0");

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

    private Engine(Settings settings) {
        super(
            InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "local"),
            MODULES.stream().map(Engine::describe).toList(),
            false
        );
    }

    /** 3.x wants a description of each module, where 2.x took its class. */
    private static PluginInfo describe(Class<? extends Plugin> module) {
        String name = module.getName();
        String java = Integer.toString(Runtime.version().feature());
        return new PluginInfo(name, "from the classpath", "NA", Version.CURRENT, java, name, null, List.of(), false);
    }

    static AutoCloseable start(Map<String, String> settings) throws Exception {
        Settings.Builder builder = Settings.builder();
        settings.forEach(builder::put);
        LogConfigurator.registerErrorListener();
        return new Engine(builder.build()).start();
    }
}
