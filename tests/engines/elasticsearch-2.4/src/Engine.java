import java.util.Map;

import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.Node;

/** Loads the modules of the unpacked server. */
final class Engine {

    static final Map<String, String> SETTINGS = Map.of(
        "path.home", System.getProperty("engine.home"),
        "discovery.type", "local",
        "transport.tcp.port", "0"
    );

    static AutoCloseable start(Map<String, String> settings) throws Exception {
        return new Node(Settings.builder().put(settings).build()).start();
    }
}
