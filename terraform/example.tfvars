# terraform apply -var-file=example.tfvars
# Five nodes in three regions; a majority survives the loss of any one region.

project_id = "my-project-id"
cluster    = "demo"

# Once a range is in use, keep it: a changed range replaces the subnet and its machines.
regions = {
  us-central1  = "10.80.0.0/24"
  us-east1     = "10.80.1.0/24"
  europe-west1 = "10.80.2.0/24"
}

nodes = {
  n1 = { id = 1, region = "us-central1", zone = "us-central1-a" }
  n2 = { id = 2, region = "us-central1", zone = "us-central1-b" }
  n3 = { id = 3, region = "us-east1", zone = "us-east1-b" }
  n4 = { id = 4, region = "us-east1", zone = "us-east1-c" }
  n5 = { id = 5, region = "europe-west1", zone = "europe-west1-b" }
}

machine_type     = "e2-small"
data_disk_type   = "pd-balanced"
lifetime_seconds = 43200 # 12 hours

ssh_user       = "raft"
ssh_public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJlcGxhY2UgdGhpcyBieSB5b3VyIHB1YmxpYyBrZXk demo"
ssh_via        = "external"
operator_cidrs = ["198.51.100.7/32"] # your own address: curl https://ifconfig.me

labels = { team = "storage" }
