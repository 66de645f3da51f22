import java.util.Collection;
import java.util.List;

import org.opensearch.Version;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.plugins.Plugin;
import org.opensearch.plugins.PluginInfo;

/** Describes each module, as 3.x wants a description where 2.x accepts a class. */
public final class DescribedNode extends Node {

    public DescribedNode(Environment environment, Collection<Class<? extends Plugin>> modules, boolean forbidPrivate) {
        super(environment, modules.stream().map(DescribedNode::describe).toList(), forbidPrivate);
    }

    private static PluginInfo describe(Class<? extends Plugin> module) {
        String name = module.getName();
        String java = Integer.toString(Runtime.version().feature());
        return new PluginInfo(name, "from the classpath", "NA", Version.CURRENT, java, name, null, List.of(), false);
    }
}
