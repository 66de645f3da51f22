// Apart, since Packer 1.6, which is what the tests can have, has the plug-in built in and does not know this.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.3"
    }
  }
}
