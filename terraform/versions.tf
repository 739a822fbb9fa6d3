terraform {
  required_version = ">= 1.5"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }
}

provider "google" {
  project = var.project_id

  # The provider's own label would cost each address a second step.
  add_terraform_attribution_label = false
}
