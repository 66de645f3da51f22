import java.util.Map;

import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.Node;

/** Loads the modules of the unpacked server. */
final class Engine {

    static final Map<String, String> SETTINGS = Map.of(
        "path.home", System.getProperty("engine.home"),
        "transport.tcp.port", "0"
    );

    static AutoCloseable start(Map<String, String> settings) throws Exception {
        Node node = new Node(put(settings)) {
            @Override
            protected void registerDerivedNodeNameWithLogger(String name) {
                LogConfigurator.setNodeName(name);
            }
        };
        return node.start();
    }

    private static Settings put(Map<String, String> settings) {
        Settings.Builder builder = Settings.builder();
        settings.forEach(builder::put);
        return builder.build();
    }
}
