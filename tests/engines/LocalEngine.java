import java.io.InputStream;
import java.lang.reflect.Constructor;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.function.Supplier;

/**
 * One node inside this JVM, HTTP on 127.0.0.1 only, until SIGTERM. The stock start-up code refuses to run as root.
 * Arguments: PORT DATA_DIR [setting=value ...].
 *
 * <p>The property engine.home names the unpacked server, and engine.file a file with the differences between engines:
 * "modules", the classes of the modules that are on the class path (without any, the node loads those of the server);
 * "node", the class of the node, if not the engine's own; all other keys are settings.
 *
 * <p>It calls the engine by reflection, as the packages of Elasticsearch and OpenSearch have different names.
 */
public final class LocalEngine {

    private static final String PACKAGE = isPresent("org.opensearch.node.Node") ? "org.opensearch" : "org.elasticsearch";

    public static void main(String[] args) throws Exception {
        if (args.length < 2) {
            System.err.println("arguments: PORT DATA_DIR [setting=value ...]");
            System.exit(2);
        }
        Properties engine = new Properties();
        try (InputStream file = Files.newInputStream(Path.of(System.getProperty("engine.file")))) {
            engine.load(file);
        }
        String node = (String) engine.getOrDefault("node", PACKAGE + ".node.Node");
        List<Class<?>> modules = new ArrayList<>();
        for (String module : engine.getProperty("modules", "").split("\\s+")) {
            if (!module.isEmpty()) modules.add(Class.forName(module));
        }

        Path home = Path.of(args[1]).toAbsolutePath();
        Map<String, String> settings = new TreeMap<>(Map.of(
            "cluster.name", "local",
            "node.name", "local",
            "path.home", modules.isEmpty() ? System.getProperty("engine.home") : home.toString(),
            "path.data", home.resolve("data").toString(),
            "path.logs", home.resolve("logs").toString(),
            "discovery.type", "single-node",
            "network.host", "127.0.0.1",
            "http.port", args[0],
            "cluster.routing.allocation.disk.threshold_enabled", "false"
        ));
        for (String key : engine.stringPropertyNames()) {
            if (!key.equals("node") && !key.equals("modules")) settings.put(key, engine.getProperty(key));
        }
        for (int i = 2; i < args.length; i++) {
            String[] pair = args[i].split("=", 2);
            settings.put(pair[0], pair[1]);
        }

        AutoCloseable running = start(Class.forName(node), modules, settings(settings));
        CountDownLatch stopped = new CountDownLatch(1);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                running.close();
            } catch (Exception e) {
                e.printStackTrace();
            } finally {
                stopped.countDown();
            }
        }, "shutdown"));
        System.out.println("ready on http://127.0.0.1:" + args[0]);
        stopped.await();
    }

    private static AutoCloseable start(Class<?> type, List<Class<?>> modules, Object settings) throws Exception {
        Object node;
        if (modules.isEmpty()) {
            node = type.getConstructor(settings.getClass()).newInstance(settings);
        } else {
            engineClass("common.logging.LogConfigurator").getMethod("registerErrorListener").invoke(null);
            Object environment = engineClass("node.InternalSettingsPreparer")
                .getMethod("prepareEnvironment", settings.getClass(), Map.class, Path.class, Supplier.class)
                .invoke(null, settings, Map.of(), null, (Supplier<String>) () -> "local");
            Constructor<?> constructor =
                type.getDeclaredConstructor(environment.getClass(), Collection.class, boolean.class);
            // It is protected: tests of the engine's plug-ins derive a class from it.
            constructor.setAccessible(true);
            node = constructor.newInstance(environment, modules, false);
        }
        return (AutoCloseable) type.getMethod("start").invoke(node);
    }

    private static Object settings(Map<String, String> settings) throws Exception {
        Object builder = engineClass("common.settings.Settings").getMethod("builder").invoke(null);
        for (Map.Entry<String, String> setting : settings.entrySet()) {
            builder.getClass().getMethod("put", String.class, String.class)
                .invoke(builder, setting.getKey(), setting.getValue());
        }
        return builder.getClass().getMethod("build").invoke(builder);
    }

    private static Class<?> engineClass(String name) throws ClassNotFoundException {
        return Class.forName(PACKAGE + "." + name);
    }

    private static boolean isPresent(String name) {
        try {
            Class.forName(name, false, LocalEngine.class.getClassLoader());
            return true;
        } catch (ClassNotFoundException e) {
            return false;
        }
    }
}
