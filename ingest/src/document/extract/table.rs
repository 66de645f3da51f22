//! The table of promoted fields and the paths of their values.
//!
//! It is long because it is one flat table, and only a table: its order is the order of the fields in every document.

/// One field of the object.
pub(super) struct Field {
    /// Its name in the object.
    pub(super) name: &'static str,
    /// The paths of its values.
    pub(super) paths: &'static [Path],
}

/// A path in an event.
pub(super) struct Path {
    /// The only service whose events have it, as `eventSource` begins.
    pub(super) service: Option<&'static str>,
    /// The keys from the event down, with dots between them.
    pub(super) keys: &'static str,
}

const fn field(name: &'static str, paths: &'static [Path]) -> Field {
    Field { name, paths }
}

const fn any(keys: &'static str) -> Path {
    Path { service: None, keys }
}

/// Returns a path of one service, for keys as common as `name`, which differ in meaning between services.
const fn of(service: &'static str, keys: &'static str) -> Path {
    Path { service: Some(service), keys }
}

/// The promoted fields, chosen by the contents of real trails and the usual questions of an audit.
pub(super) const FIELDS: &[Field] = &[
    // Who called.
    field("user_arn", &[any("userIdentity.arn")]),
    field("source_account", &[any("userIdentity.accountId")]),
    field("issuer_arn", &[any("userIdentity.sessionContext.sessionIssuer.arn")]),
    field("invoked_by", &[any("userIdentity.invokedBy")]),
    field(
        "access_key_id",
        &[
            any("userIdentity.accessKeyId"),
            any("requestParameters.accessKeyId"),
            any("responseElements.accessKey.accessKeyId"),
            any("responseElements.credentials.accessKeyId"),
        ],
    ),
    // Sign-ins and assumed roles.
    field("console_login", &[any("responseElements.ConsoleLogin")]),
    field("mfa_used", &[any("additionalEventData.MFAUsed")]),
    field("mfa_serial", &[any("requestParameters.serialNumber"), any("additionalEventData.MFAIdentifier")]),
    field("assumed_role_arn", &[any("responseElements.assumedRoleUser.arn")]),
    field("role_session_name", &[any("requestParameters.roleSessionName")]),
    field("external_id", &[any("requestParameters.externalId")]),
    field("federated_user", &[of("sts", "requestParameters.name"), any("responseElements.federatedUser.arn")]),
    field(
        "identity_provider",
        &[
            any("requestParameters.sAMLProviderArn"),
            any("responseElements.sAMLProviderArn"),
            any("requestParameters.openIDConnectProviderArn"),
            any("responseElements.openIDConnectProviderArn"),
        ],
    ),
    // Identities and policies.
    field(
        "role_arn",
        &[
            any("requestParameters.roleArn"),
            any("requestParameters.role"),
            any("requestParameters.executionRoleArn"),
            any("requestParameters.taskRoleArn"),
            any("requestParameters.serviceRole"),
            any("requestParameters.cloudWatchLogsRoleArn"),
            any("responseElements.role.arn"),
            any("requestParameters.iamRoleArn"),
            any("requestParameters.roleArns"),
            any("requestParameters.CreateFlowLogsRequest.DeliverLogsPermissionArn"),
        ],
    ),
    field(
        "role_name",
        &[
            any("requestParameters.roleName"),
            any("responseElements.role.roleName"),
            any("responseElements.instanceProfile.roles.roleName"),
        ],
    ),
    field(
        "user_name",
        &[
            any("requestParameters.userName"),
            any("responseElements.user.userName"),
            any("responseElements.accessKey.userName"),
        ],
    ),
    field("group_name", &[of("iam", "requestParameters.groupName"), any("responseElements.group.groupName")]),
    field(
        "policy_arn",
        &[
            any("requestParameters.policyArn"),
            any("requestParameters.policyArns.arn"),
            any("requestParameters.permissionsBoundary"),
            any("responseElements.policy.arn"),
        ],
    ),
    field("policy_name", &[any("requestParameters.policyName"), any("responseElements.policy.policyName")]),
    field(
        "instance_profile",
        &[
            any("requestParameters.instanceProfileName"),
            any("requestParameters.iamInstanceProfile.name"),
            any("requestParameters.iamInstanceProfile.arn"),
            any("requestParameters.AssociateIamInstanceProfileRequest.IamInstanceProfile.Name"),
            any("responseElements.instanceProfile.instanceProfileName"),
            any("requestParameters.ReplaceIamInstanceProfileAssociationRequest.IamInstanceProfile.Name"),
            any("responseElements.instancesSet.items.iamInstanceProfile.arn"),
            any(
                "responseElements.AssociateIamInstanceProfileResponse.iamInstanceProfileAssociation.iamInstanceProfile.arn",
            ),
        ],
    ),
    field(
        "policy_principal",
        &[
            of("lambda", "requestParameters.principal"),
            of("lambda", "requestParameters.principalOrgID"),
            of("eks", "requestParameters.principalArn"),
            any("requestParameters.aWSAccountIds"),
            any("requestParameters.aWSAccountId"),
            any("requestParameters.granteePrincipal"),
            any("requestParameters.principals"),
        ],
    ),
    field("policy_cidr", &[]),
    field(
        "acl_grantee",
        &[
            any("requestParameters.x-amz-acl"),
            any("requestParameters.x-amz-grant-read"),
            any("requestParameters.x-amz-grant-write"),
            any("requestParameters.x-amz-grant-full-control"),
            any("requestParameters.accessControlList.x-amz-grant-read"),
            any("requestParameters.accessControlList.x-amz-grant-write"),
            any("requestParameters.accessControlList.x-amz-grant-read-acp"),
            any("requestParameters.accessControlList.x-amz-grant-write-acp"),
            any("requestParameters.accessControlList.x-amz-grant-full-control"),
            any("requestParameters.AccessControlPolicy.AccessControlList.Grant.Grantee.ID"),
            any("requestParameters.AccessControlPolicy.AccessControlList.Grant.Grantee.URI"),
            any("requestParameters.AccessControlPolicy.AccessControlList.Grant.Grantee.EmailAddress"),
        ],
    ),
    field("block_public_acls", &[any("requestParameters.PublicAccessBlockConfiguration.BlockPublicAcls")]),
    field("block_public_policy", &[any("requestParameters.PublicAccessBlockConfiguration.BlockPublicPolicy")]),
    field("ignore_public_acls", &[any("requestParameters.PublicAccessBlockConfiguration.IgnorePublicAcls")]),
    field("restrict_public_buckets", &[any("requestParameters.PublicAccessBlockConfiguration.RestrictPublicBuckets")]),
    // Storage.
    field(
        "bucket",
        &[
            any("requestParameters.bucketName"),
            any("requestParameters.s3BucketName"),
            any("requestParameters.code.s3Bucket"),
            any("requestParameters.s3Bucket"),
            any("requestParameters.exportToS3Task.s3Bucket"),
        ],
    ),
    field("object_key", &[of("s3", "requestParameters.key"), of("s3", "requestParameters.prefix")]),
    field("copy_source", &[any("requestParameters.x-amz-copy-source")]),
    field(
        "encryption",
        &[
            any("requestParameters.x-amz-server-side-encryption-customer-algorithm"),
            any("requestParameters.x-amz-server-side-encryption"),
            any(
                "requestParameters.ServerSideEncryptionConfiguration.Rule.ApplyServerSideEncryptionByDefault.SSEAlgorithm",
            ),
            any("additionalEventData.SSEApplied"),
        ],
    ),
    field(
        "target_bucket",
        &[
            any("requestParameters.BucketLoggingStatus.LoggingEnabled.TargetBucket"),
            any("requestParameters.ReplicationConfiguration.Rule.Destination.Bucket"),
        ],
    ),
    field("file_system_id", &[any("requestParameters.fileSystemId"), any("responseElements.fileSystemId")]),
    field(
        "volume_id",
        &[
            any("requestParameters.volumeId"),
            any("requestParameters.volumeSet.items.volumeId"),
            of("ec2", "responseElements.volumeId"),
        ],
    ),
    field(
        "snapshot_id",
        &[
            any("requestParameters.snapshotId"),
            any("requestParameters.snapshotSet.items.snapshotId"),
            any("requestParameters.dBSnapshotIdentifier"),
            any("requestParameters.dBClusterSnapshotIdentifier"),
            of("ec2", "responseElements.snapshotId"),
            any("requestParameters.sourceDBSnapshotIdentifier"),
            any("requestParameters.targetDBSnapshotIdentifier"),
            any("requestParameters.sourceDBClusterSnapshotIdentifier"),
            any("requestParameters.targetDBClusterSnapshotIdentifier"),
            any("requestParameters.sourceSnapshotId"),
        ],
    ),
    field(
        "snapshot_shared_with",
        &[
            any("requestParameters.createVolumePermission.add.items.userId"),
            any("requestParameters.createVolumePermission.add.items.group"),
            any("requestParameters.launchPermission.add.items.userId"),
            any("requestParameters.launchPermission.add.items.group"),
            any("requestParameters.valuesToAdd"),
            any("requestParameters.launchPermission.add.items.organizationArn"),
            any("requestParameters.launchPermission.add.items.organizationalUnitArn"),
        ],
    ),
    // Machines.
    field(
        "instance_id",
        &[
            any("requestParameters.instanceId"),
            any("requestParameters.instanceIds"),
            any("requestParameters.instancesSet.items.instanceId"),
            any("requestParameters.instanceIdSet.items.instanceId"),
            any("requestParameters.AssociateIamInstanceProfileRequest.InstanceId"),
            of("ssm", "requestParameters.target"),
            any("responseElements.instancesSet.items.instanceId"),
        ],
    ),
    field(
        "image_id",
        &[
            any("requestParameters.imageId"),
            any("requestParameters.imagesSet.items.imageId"),
            any("requestParameters.instancesSet.items.imageId"),
            any("responseElements.imageId"),
        ],
    ),
    field(
        "key_pair",
        &[
            of("ec2", "requestParameters.keyName"),
            any("requestParameters.instancesSet.items.keyName"),
            any("requestParameters.keyPairSet.items.keyName"),
        ],
    ),
    field(
        "launch_template",
        &[
            any("requestParameters.launchTemplate.launchTemplateId"),
            any("requestParameters.launchTemplate.launchTemplateName"),
            any("requestParameters.CreateLaunchTemplateRequest.LaunchTemplateName"),
            any("requestParameters.CreateLaunchTemplateVersionRequest.LaunchTemplateId"),
            any("requestParameters.CreateLaunchTemplateVersionRequest.LaunchTemplateName"),
            any("requestParameters.ModifyLaunchTemplateRequest.LaunchTemplateId"),
            any("responseElements.CreateLaunchTemplateResponse.launchTemplate.launchTemplateId"),
        ],
    ),
    field("session_id", &[of("ssm", "requestParameters.sessionId"), of("ssm", "responseElements.sessionId")]),
    field("command_id", &[any("requestParameters.commandId"), any("responseElements.command.commandId")]),
    // Networks.
    field(
        "security_group",
        &[
            of("ec2", "requestParameters.groupId"),
            of("ec2", "requestParameters.groupName"),
            any("requestParameters.groupSet.items.groupId"),
            any("requestParameters.securityGroupIdSet.items.groupId"),
            any("requestParameters.ModifySecurityGroupRulesRequest.GroupId"),
            any("requestParameters.vpcSecurityGroupIds"),
            of("ec2", "responseElements.groupId"),
            any("responseElements.securityGroupRuleSet.items.groupId"),
            any("responseElements.instancesSet.items.groupSet.items.groupId"),
            any("responseElements.networkInterface.groupSet.items.groupId"),
            any("requestParameters.dBSecurityGroupName"),
            any("responseElements.vpcSecurityGroups.vpcSecurityGroupId"),
            any("requestParameters.resourcesVpcConfig.securityGroupIds"),
        ],
    ),
    field(
        "cidr",
        &[
            any("requestParameters.cidrIp"),
            any("requestParameters.cidrBlock"),
            any("requestParameters.destinationCidrBlock"),
            any("requestParameters.destinationIpv6CidrBlock"),
            any("requestParameters.ipPermissions.items.ipRanges.items.cidrIp"),
            any("requestParameters.ipPermissions.items.ipv6Ranges.items.cidrIpv6"),
            any("responseElements.securityGroupRuleSet.items.cidrIpv4"),
            any("responseElements.securityGroupRuleSet.items.cidrIpv6"),
            any("requestParameters.cIDRIP"),
            any("requestParameters.ipv6CidrBlock"),
            any("requestParameters.ModifySecurityGroupRulesRequest.SecurityGroupRule.SecurityGroupRule.CidrIpv4"),
            any("requestParameters.ModifySecurityGroupRulesRequest.SecurityGroupRule.SecurityGroupRule.CidrIpv6"),
            any("requestParameters.resourcesVpcConfig.publicAccessCidrs"),
        ],
    ),
    field(
        "vpc_id",
        &[
            any("requestParameters.vpcId"),
            any("requestParameters.vpcSet.items.vpcId"),
            any("requestParameters.vpcSet.item.vpcId"),
            any("requestParameters.DeleteVpcEndpointsRequest.VpcEndpointId.content"),
            any("responseElements.vpc.vpcId"),
            any("responseElements.subnet.vpcId"),
            any("responseElements.routeTable.vpcId"),
            any("responseElements.networkInterface.vpcId"),
            any("responseElements.instancesSet.items.vpcId"),
            any("responseElements.vpcId"),
        ],
    ),
    field(
        "subnet_id",
        &[
            any("requestParameters.subnetId"),
            any("requestParameters.subnetIds"),
            any("requestParameters.subnetSet.items.subnetId"),
            any("requestParameters.CreateNatGatewayRequest.SubnetId"),
            any("responseElements.subnet.subnetId"),
            any("responseElements.networkInterface.subnetId"),
            any("responseElements.instancesSet.items.subnetId"),
        ],
    ),
    field(
        "route_table_id",
        &[
            any("requestParameters.routeTableId"),
            any("requestParameters.routeTableIdSet.items.routeTableId"),
            any("responseElements.routeTable.routeTableId"),
        ],
    ),
    field(
        "gateway_id",
        &[
            any("requestParameters.gatewayId"),
            any("requestParameters.natGatewayId"),
            any("requestParameters.internetGatewayId"),
            any("requestParameters.internetGatewayIdSet.items.internetGatewayId"),
            any("responseElements.internetGateway.internetGatewayId"),
            any("responseElements.CreateNatGatewayResponse.natGateway.natGatewayId"),
        ],
    ),
    field("network_acl_id", &[any("requestParameters.networkAclId"), any("responseElements.networkAcl.networkAclId")]),
    field(
        "network_interface_id",
        &[
            any("requestParameters.networkInterfaceId"),
            any("requestParameters.networkInterfaceIdSet.items.networkInterfaceId"),
            any("responseElements.networkInterface.networkInterfaceId"),
            any("requestParameters.networkInterfaceSet.items.networkInterfaceId"),
            any("responseElements.instancesSet.items.networkInterfaceSet.items.networkInterfaceId"),
            any("requestParameters.CreateTrafficMirrorSessionRequest.NetworkInterfaceId"),
            any("requestParameters.CreateTrafficMirrorTargetRequest.NetworkInterfaceId"),
        ],
    ),
    field(
        "flow_log",
        &[
            any("requestParameters.CreateFlowLogsRequest.ResourceId.content"),
            any("requestParameters.DeleteFlowLogsRequest.FlowLogId.content"),
            any("responseElements.CreateFlowLogsResponse.flowLogIdSet.item"),
        ],
    ),
    field(
        "traffic_mirror",
        &[
            any("requestParameters.CreateTrafficMirrorSessionRequest.TrafficMirrorTargetId"),
            any("responseElements.CreateTrafficMirrorSessionResponse.trafficMirrorSession.trafficMirrorSessionId"),
            any("responseElements.CreateTrafficMirrorTargetResponse.trafficMirrorTarget.trafficMirrorTargetId"),
        ],
    ),
    field(
        "load_balancer",
        &[
            any("requestParameters.loadBalancerArn"),
            any("requestParameters.loadBalancerName"),
            any("requestParameters.listenerArn"),
            any("requestParameters.targetGroupArn"),
            any("responseElements.loadBalancers.loadBalancerArn"),
            any("responseElements.listeners.loadBalancerArn"),
        ],
    ),
    field(
        "distribution_id",
        &[of("cloudfront", "requestParameters.id"), of("cloudfront", "responseElements.distribution.id")],
    ),
    field(
        "api_id",
        &[
            any("requestParameters.restApiId"),
            any("requestParameters.apiId"),
            any("responseElements.apiId"),
            of("apigateway", "responseElements.id"),
        ],
    ),
    // Keys and secrets.
    field(
        "key_id",
        &[
            of("kms", "requestParameters.keyId"),
            any("requestParameters.kmsKeyId"),
            any("requestParameters.kMSKeyId"),
            any("requestParameters.kmsMasterKeyId"),
            any("requestParameters.targetKeyId"),
            of("kms", "responseElements.keyId"),
            any("responseElements.keyMetadata.arn"),
            any("responseElements.kmsKeyId"),
            any("serviceEventDetails.keyId"),
            any("requestParameters.x-amz-server-side-encryption-aws-kms-key-id"),
            any("responseElements.x-amz-server-side-encryption-aws-kms-key-id"),
            any(
                "requestParameters.ServerSideEncryptionConfiguration.Rule.ApplyServerSideEncryptionByDefault.KMSMasterKeyID",
            ),
        ],
    ),
    field(
        "secret_id",
        &[
            any("requestParameters.secretId"),
            any("requestParameters.encryptionContext.SecretARN"),
            of("secretsmanager", "requestParameters.name"),
            of("secretsmanager", "responseElements.arn"),
            of("secretsmanager", "additionalEventData.SecretId"),
        ],
    ),
    field(
        "parameter_name",
        &[
            of("ssm", "requestParameters.name"),
            of("ssm", "requestParameters.names"),
            any("requestParameters.encryptionContext.PARAMETER_ARN"),
        ],
    ),
    field("document_name", &[any("requestParameters.documentName")]),
    // Logging itself: what an intruder switches off.
    field(
        "trail_name",
        &[
            of("cloudtrail", "requestParameters.name"),
            any("requestParameters.trailName"),
            any("requestParameters.trailNameList"),
            any("responseElements.trailARN"),
        ],
    ),
    field(
        "log_group",
        &[
            any("requestParameters.logGroupName"),
            any("requestParameters.cloudWatchLogsLogGroupArn"),
            any("requestParameters.CreateFlowLogsRequest.LogDestination"),
        ],
    ),
    field("log_stream", &[any("requestParameters.logStreamName")]),
    field("detector_id", &[any("requestParameters.detectorId"), any("responseElements.detectorId")]),
    field(
        "guardduty_set",
        &[
            any("requestParameters.ipSetId"),
            any("requestParameters.threatIntelSetId"),
            any("responseElements.ipSetId"),
            any("responseElements.threatIntelSetId"),
            of("guardduty", "requestParameters.filterName"),
        ],
    ),
    field("finding_id", &[of("guardduty", "requestParameters.findingIds")]),
    field(
        "config_recorder",
        &[any("requestParameters.configurationRecorderName"), any("requestParameters.configurationRecorder.name")],
    ),
    // Programs and data bases.
    field(
        "function_name",
        &[
            any("requestParameters.functionName"),
            of("lambda", "responseElements.functionName"),
            of("lambda", "responseElements.functionArn"),
        ],
    ),
    field(
        "layer",
        &[
            any("requestParameters.layerName"),
            any("responseElements.layerVersionArn"),
            of("lambda", "requestParameters.layers"),
            of("lambda", "responseElements.layers.arn"),
        ],
    ),
    field(
        "build_project",
        &[
            any("requestParameters.projectName"),
            any("responseElements.project.name"),
            any("responseElements.build.projectName"),
        ],
    ),
    field("model_id", &[any("requestParameters.modelId"), any("requestParameters.modelIdentifier")]),
    field(
        "trust_anchor",
        &[
            any("requestParameters.trustAnchorId"),
            any("requestParameters.trustAnchorArn"),
            any("responseElements.trustAnchor.trustAnchorArn"),
        ],
    ),
    field(
        "anywhere_profile",
        &[
            of("rolesanywhere", "requestParameters.profileId"),
            of("rolesanywhere", "requestParameters.profileArn"),
            any("responseElements.profile.profileArn"),
        ],
    ),
    field("stack_name", &[any("requestParameters.stackName"), any("requestParameters.stackSetName")]),
    field(
        "cluster",
        &[
            any("requestParameters.cluster"),
            any("requestParameters.clusterName"),
            of("eks", "requestParameters.name"),
            of("eks", "responseElements.cluster.name"),
        ],
    ),
    field("repository", &[any("requestParameters.repositoryName")]),
    field(
        "db_instance",
        &[
            any("requestParameters.dBInstanceIdentifier"),
            any("requestParameters.dBClusterIdentifier"),
            any("responseElements.dBInstanceIdentifier"),
            any("responseElements.dBClusterIdentifier"),
        ],
    ),
    field(
        "export_task",
        &[
            any("requestParameters.exportTaskIdentifier"),
            any("responseElements.exportTaskIdentifier"),
            any("responseElements.exportDescription.exportArn"),
        ],
    ),
    field("table_name", &[any("requestParameters.tableName")]),
    field("domain_name", &[any("requestParameters.domainName")]),
    field("queue_url", &[any("requestParameters.queueUrl"), any("responseElements.queueUrl")]),
    field("topic_arn", &[any("requestParameters.topicArn"), any("responseElements.topicArn")]),
    field("stream_name", &[any("requestParameters.streamName"), any("requestParameters.deliveryStreamName")]),
    // Whatever it is.
    field(
        "resource_arn",
        &[
            any("resources.ARN"),
            any("resources.arn"),
            any("requestParameters.resourceArn"),
            of("rds", "requestParameters.sourceArn"),
            any("requestParameters.tableArn"),
        ],
    ),
    field("resource_account", &[any("resources.accountId")]),
    field(
        "target_account",
        &[
            of("organizations", "requestParameters.accountId"),
            of("organizations", "requestParameters.target.id"),
            any("requestParameters.targetAccountId"),
            any("serviceEventDetails.createAccountStatus.accountId"),
            of("guardduty", "requestParameters.accountIds"),
        ],
    ),
];

/// The paths of policy documents, which are objects, or JSON within a string.
pub(super) const POLICIES: &[Path] = &[
    any("requestParameters.policyDocument"),
    any("requestParameters.assumeRolePolicyDocument"),
    any("requestParameters.bucketPolicy"),
    any("requestParameters.policy"),
    any("requestParameters.policyText"),
    any("requestParameters.resourcePolicy"),
    any("requestParameters.accessPolicies"),
    any("requestParameters.attributes.Policy"),
    of("sns", "requestParameters.attributeValue"),
    of("lambda", "responseElements.statement"),
];
