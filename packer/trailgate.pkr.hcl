// The image: `packer init packer && packer build -only 'amazon-ebs.*' packer`, after packer/bundle for both
// architectures.
//
// The source "null.machine" provisions an existing machine by the same steps; the tests use it. Without -only it
// provisions the machine that Packer runs on.

variable "region" {
  type    = string
  default = env("AWS_REGION")
}

variable "subnet_id" {
  type        = string
  default     = ""
  description = "A public subnet to build in; the default VPC's if empty."
}

variable "kms_key_id" {
  type        = string
  default     = ""
  description = "The key of the image's volume; the account's default for EBS if empty. An image under aws/ebs cannot be shared."
}

variable "bundles" {
  type        = string
  default     = "target/bundle"
  description = "Where packer/bundle put the bundles."
}

variable "machine" {
  type        = object({ host = string, port = number, key = string })
  default     = { host = "127.0.0.1", port = 22, key = "" }
  description = "The machine of the source null.machine, and the key file for root; the agent's keys if empty."
}

locals {
  // The architectures by their names in EC2, and by those of the bundles.
  architectures = { arm64 = "aarch64", x86_64 = "x86_64" }
  types         = { arm64 = "t4g.small", x86_64 = "t3.small" }
  stamp         = formatdate("YYYYMMDD-hhmmss", timestamp())
}

// Amazon Linux 2023 requires IMDSv2 by itself, and for the gates the stack's launch template does.
source "amazon-ebs" "gate" {
  region                      = var.region
  ssh_username                = "ec2-user"
  associate_public_ip_address = true
  encrypt_boot                = true
  kms_key_id                  = var.kms_key_id
  subnet_id                   = var.subnet_id

  // Packer's key must not stay in the image.
  ssh_clear_authorized_keys = true
  run_tags                  = { Name = "trailgate-image" }

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    iops                  = 3000
    throughput            = 125
    volume_size           = 8
    delete_on_termination = true
  }
}

source "null" "machine" {
  ssh_host             = var.machine.host
  ssh_port             = var.machine.port
  ssh_username         = "root"
  ssh_private_key_file = var.machine.key
  ssh_agent_auth       = var.machine.key == ""
}

build {
  dynamic "source" {
    for_each = local.architectures
    labels   = ["amazon-ebs.gate"]

    content {
      name          = source.key
      ami_name      = "trailgate-${source.key}-${local.stamp}"
      instance_type = local.types[source.key]

      source_ami_filter {
        owners      = ["amazon"]
        most_recent = true
        filters = {
          name                = "al2023-ami-2023.*-kernel-*-${source.key}"
          virtualization-type = "hvm"
          root-device-type    = "ebs"
        }
      }

      tags = {
        Name         = "trailgate"
        Architecture = source.key
      }
    }
  }

  // Its name is its architecture, as for the images.
  source "null.machine" {
    name = "x86_64"
  }

  provisioner "file" {
    source      = "${var.bundles}/trailgate-${local.architectures[source.name]}.tar.gz"
    destination = "/tmp/trailgate.tar.gz"
  }

  provisioner "shell" {
    execute_command = "chmod +x {{ .Path }}; {{ .Vars }} sudo -E {{ .Path }}"
    inline = [
      "mkdir /root/trailgate",
      "tar -xzf /tmp/trailgate.tar.gz -C /root/trailgate",
      "/root/trailgate/provision.sh",
      // A machine outside a stack has no log group.
      source.type == "amazon-ebs" ? "/usr/libexec/trailgate/install-shipper" : "true",
      "rm -r /root/trailgate /tmp/trailgate.tar.gz",
    ]
  }
}
