import org.elasticsearch.common.logging.LogConfigurator;
import org.elasticsearch.common.settings.Settings;
import org.elasticsearch.node.Node;

/** Adds the method that 6.x leaves to its start-up code. */
public final class NamedNode extends Node {

    public NamedNode(Settings settings) {
        super(settings);
    }

    @Override
    protected void registerDerivedNodeNameWithLogger(String name) {
        LogConfigurator.setNodeName(name);
    }
}
