import java.util.List;
import java.util.Map;

import org.opensearch.common.logging.LogConfigurator;
import org.opensearch.common.settings.Settings;
import org.opensearch.node.InternalSettingsPreparer;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.security.OpenSearchSecurityPlugin;
import org.opensearch.transport.Netty4Plugin;

/** Takes the plug-in's configuration from DATA_DIR/config/opensearch-security, and its certificate from DATA_DIR/config. */
final class Engine extends Node {

    static final Map<String, String> SETTINGS = Map.of(
        "transport.port", "0",
        "plugins.security.allow_default_init_securityindex", "true",
        "plugins.security.restapi.roles_enabled", "all_access",
        "plugins.security.ssl.http.enabled", "false",
        "plugins.security.ssl.transport.enforce_hostname_verification", "false",
        "plugins.security.ssl.transport.pemcert_filepath", "certificate.pem",
        "plugins.security.ssl.transport.pemkey_filepath", "key.pem",
        "plugins.security.ssl.transport.pemtrustedcas_filepath", "certificate.pem"
    );

    private static final List<Class<? extends Plugin>> MODULES =
        List.of(Netty4Plugin.class, OpenSearchSecurityPlugin.class);

    private Engine(Settings settings) {
        super(InternalSettingsPreparer.prepareEnvironment(settings, Map.of(), null, () -> "local"), MODULES, false);
    }

    static AutoCloseable start(Map<String, String> settings) throws Exception {
        Settings.Builder builder = Settings.builder();
        settings.forEach(builder::put);
        LogConfigurator.registerErrorListener();
        return new Engine(builder.build()).start();
    }
}
