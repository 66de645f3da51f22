"""The template without the resources that moto's CloudFormation ignores or mistakes for others."""

from template import Stack, load

# moto says CREATE_COMPLETE and makes nothing of these.
IGNORED = {
    "AWS::CloudTrail::Trail",
    "AWS::CloudWatch::Alarm",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Logs::MetricFilter",
    "AWS::Logs::SubscriptionFilter",
    "AWS::OpenSearchService::Domain",
    "AWS::S3::BucketPolicy",
    "AWS::Scheduler::Schedule",
    "AWS::SNS::Subscription",
}

# It treats every load balancer as an application load balancer.
MISTAKEN = {"AWS::ElasticLoadBalancingV2::Listener", "AWS::ElasticLoadBalancingV2::LoadBalancer"}


def cut(**parameters):
    """The template without the ignored resources; what refers to one gets `stub-NAME` in its place.

    moto also leaves a null in a list where `AWS::NoValue` takes an element away, so such elements are decided here. In an
    update it looks at functions whose condition does not hold, which are cut, too.
    """
    template = load()
    stack = Stack(**parameters)
    resources = template["Resources"]
    gone = {name for name, resource in resources.items() if resource["Type"] in IGNORED | MISTAKEN}
    functions = {name for name, resource in resources.items() if resource["Type"] == "AWS::Lambda::Function"}
    gone |= {name for name in functions if not stack.holds(resources[name].get("Condition"))}
    template["Resources"] = {name: resource for name, resource in resources.items() if name not in gone}
    template.pop("Metadata")
    for resource in template["Resources"].values():
        resource.pop("Metadata", None)
        # moto knows the older of the two values only, and takes the other for Delete.
        if resource.get("DeletionPolicy") == "RetainExceptOnCreate":
            resource["DeletionPolicy"] = "Retain"
        wanted = resource.get("DependsOn", [])
        kept = [name for name in ([wanted] if isinstance(wanted, str) else wanted) if name not in gone]
        resource.pop("DependsOn", None)
        if kept:
            resource["DependsOn"] = kept
    return _stubbed(template, gone, stack)


def _stubbed(node, gone, stack):
    if isinstance(node, list):
        return [_stubbed(value, gone, stack) for value in node if not _is_absent(value, stack)]
    if isinstance(node, str):
        for name in gone:
            for reference in (f"${{{name}}}", f"${{{name}.DomainEndpoint}}"):
                node = node.replace(reference, f"stub-{name.lower()}")
        return node
    if not isinstance(node, dict):
        return node
    if node.get("Ref") in gone:
        return f"stub-{node['Ref'].lower()}"
    if "Fn::GetAtt" in node and node["Fn::GetAtt"][0] in gone:
        return f"stub-{node['Fn::GetAtt'][0].lower()}"
    return {key: _stubbed(value, gone, stack) for key, value in node.items()}


def _is_absent(value, stack):
    if not isinstance(value, dict) or "Fn::If" not in value:
        return False
    condition, then, otherwise = value["Fn::If"]
    return (then if stack.holds(condition) else otherwise) == {"Ref": "AWS::NoValue"}
