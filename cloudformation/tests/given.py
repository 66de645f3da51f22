"""Parameters that several tests give to a stack."""

from template import ACCOUNT, REGION

CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:tls-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
FLEET = {"GateCount": "3", "CertificateArn": CERTIFICATE}
SUBNETS = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}
PRIVATE = SUBNETS | {"GateSubnetIds": "subnet-3,subnet-4"}
