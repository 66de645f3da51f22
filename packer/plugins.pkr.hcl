// In its own file: Packer 1.6, which the tests use, has the plug-in built in and rejects this block.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = "~> 1.3"
    }
  }
}
