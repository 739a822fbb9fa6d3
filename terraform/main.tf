locals {
  # Of a node that is about to go, only what is there is kept, and nothing is made for it again.
  parts     = { for name, node in var.nodes : name => node.parts == null ? toset(["address", "disk", "machine"]) : node.parts }
  disks     = { for name, node in var.nodes : name => node if contains(local.parts[name], "disk") }
  addresses = { for name, node in var.nodes : name => node if contains(local.parts[name], "address") && !var.data_disks_only }

  # Everything but the data disks goes when only those are to be kept.
  hosts = { for name, node in var.nodes : name => node if contains(local.parts[name], "machine") && !var.data_disks_only }

  # What is there already is used, and neither made nor deleted.
  has_subnetworks = length(var.subnetworks) > 0
  regions         = var.data_disks_only || local.has_subnetworks ? {} : var.regions
  network         = var.data_disks_only || local.has_subnetworks || var.network != null ? 0 : 1
  network_id      = var.network != null ? var.network : one(google_compute_network.cluster[*].id)
  rules           = var.data_disks_only || !var.firewall_rules ? 0 : 1
  client_rules    = length(var.client_cidrs) > 0 ? local.rules : 0

  # One network tag marks the cluster's own machines: firewall rules name it, and nothing else wears it.
  tag = "raft-${var.cluster}"

  # Identity-Aware Proxy opens its TCP forwarding connections from this range alone.
  iap_range  = "35.235.240.0/20"
  ssh_ranges = var.ssh_via == "iap" ? [local.iap_range] : var.operator_cidrs

  data_device_name = "raft-data"

  # Whose a thing is: another cluster of this name, in the same project, bears another mark.
  description  = var.owner == "" ? "Raft cluster ${var.cluster}" : "Raft cluster ${var.cluster}, owner ${var.owner}"
  owner_labels = var.owner == "" ? {} : { raft-owner = var.owner }

  labels = merge(var.labels, { raft-cluster = var.cluster })
}

resource "google_compute_network" "cluster" {
  count = local.network

  name                    = "raft-${var.cluster}"
  description             = local.description
  auto_create_subnetworks = false

  lifecycle {
    # Google's provider makes most things anew for another description: a mark that comes later must not.
    ignore_changes = [description]
  }
}

resource "google_compute_subnetwork" "region" {
  for_each = local.regions

  name                     = "raft-${var.cluster}-${each.key}"
  description              = local.description
  network                  = local.network_id
  region                   = each.key
  ip_cidr_range            = each.value
  private_ip_google_access = true

  lifecycle {
    ignore_changes = [description]
  }
}

# Google's provider takes the removal of a lone 0.0.0.0/0 for no difference, and leaves a rule open to
# everybody beside the range that it gets. So a rule is made anew when its ranges change.
resource "terraform_data" "ssh_ranges" {
  count = local.rules
  input = sort(local.ssh_ranges)
}

resource "terraform_data" "client_ranges" {
  count = local.client_rules
  input = sort(var.client_cidrs)
}

# SSH from the operator.
resource "google_compute_firewall" "ssh" {
  count = local.rules

  name          = "raft-${var.cluster}-ssh"
  description   = local.description
  project       = var.network_project
  network       = local.network_id
  direction     = "INGRESS"
  source_ranges = local.ssh_ranges
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }

  lifecycle {
    replace_triggered_by = [terraform_data.ssh_ranges]
    ignore_changes       = [description]

    precondition {
      condition     = local.network_id != null
      error_message = "Firewall rules belong to a network: name it (network) beside the subnetworks, or make the rules yourself and set firewall_rules = false."
    }

    # Google reads a rule without a source as one for every address.
    precondition {
      condition     = length(local.ssh_ranges) > 0
      error_message = "With ssh_via = \"external\", operator_cidrs must name at least one range, such as [\"198.51.100.7/32\"]; or set ssh_via = \"iap\"."
    }
  }
}

# Raft between the cluster's own machines.
resource "google_compute_firewall" "peers" {
  count = local.rules

  name        = "raft-${var.cluster}-peers"
  description = local.description
  project     = var.network_project
  network     = local.network_id
  direction   = "INGRESS"
  source_tags = [local.tag]
  target_tags = [local.tag]

  allow {
    protocol = "tcp"
    ports    = [tostring(var.peer_port)]
  }

  allow {
    protocol = "icmp"
  }

  lifecycle {
    ignore_changes = [description]
  }
}

# Clients of the key-value store.
resource "google_compute_firewall" "clients" {
  count = local.client_rules

  name          = "raft-${var.cluster}-clients"
  description   = local.description
  project       = var.network_project
  network       = local.network_id
  direction     = "INGRESS"
  source_ranges = var.client_cidrs
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = [tostring(var.client_port)]
  }

  lifecycle {
    replace_triggered_by = [terraform_data.client_ranges]
    ignore_changes       = [description]
  }
}

# Peers know each other by address, so an address outlives its machine.
resource "google_compute_address" "node" {
  for_each = local.addresses

  name         = "raft-${var.cluster}-${each.key}"
  description  = local.description
  address_type = "INTERNAL"
  region       = each.value.region
  subnetwork   = local.has_subnetworks ? lookup(var.subnetworks, each.value.region, "") : google_compute_subnetwork.region[each.value.region].id

  # Google labels an address in a step of its own, which takes as long as making it: only labels that are
  # asked for are worth that.
  labels = length(var.labels) > 0 ? local.labels : null

  lifecycle {
    ignore_changes = [description, labels]

    precondition {
      condition     = !local.has_subnetworks || contains(keys(var.subnetworks), each.value.region)
      error_message = "subnetworks names none in ${each.value.region}, where node ${each.key} is to be."
    }
  }
}

# Apart from the boot disk and from the machine: a node's log survives both.
resource "google_compute_disk" "data" {
  for_each = local.disks

  name        = "raft-${var.cluster}-${each.key}-data"
  description = local.description
  zone        = each.value.zone
  type        = var.data_disk_type
  size        = var.data_disk_gb
  labels      = merge(local.labels, local.owner_labels, { raft-node = each.key })

  dynamic "disk_encryption_key" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      kms_key_self_link = disk_encryption_key.value
    }
  }

  lifecycle {
    ignore_changes = [description]
  }
}

# A disk that was deleted by hand is made again, and is blank: a machine that runs on would neither format
# nor mount it, and does not see a disk that comes. It sees this, which changes with the disk.
resource "terraform_data" "disk" {
  for_each         = local.hosts
  triggers_replace = google_compute_disk.data[each.key].disk_id
}

resource "google_compute_instance" "node" {
  # A key per node, never a count: removing a node in the middle must not shift the rest.
  for_each = local.hosts

  name         = "raft-${var.cluster}-${each.key}"
  description  = local.description
  zone         = each.value.zone
  machine_type = coalesce(each.value.machine_type, var.machine_type)
  tags         = [local.tag]
  labels       = merge(local.labels, local.owner_labels, { raft-node = each.key })

  # A machine that was stopped, or that Google preempted, is started by the next apply. Google's provider
  # waits five seconds for it at each creation, too; and where this comes or goes, it changes the machine. So
  # raftctl says of each whether it is to be started: one that is new is not.
  desired_status = coalesce(each.value.start, var.start_machines) ? "RUNNING" : null

  # Google changes the machine type of a stopped machine only.
  allow_stopping_for_update = true

  boot_disk {
    kms_key_self_link = var.kms_key

    initialize_params {
      image  = var.image
      size   = var.boot_disk_gb
      type   = var.boot_disk_type
      labels = merge(local.labels, local.owner_labels, { raft-node = each.key })
    }
  }

  attached_disk {
    source      = google_compute_disk.data[each.key].self_link
    device_name = local.data_device_name
  }

  network_interface {
    subnetwork = local.has_subnetworks ? lookup(var.subnetworks, each.value.region, "") : google_compute_subnetwork.region[each.value.region].id
    network_ip = google_compute_address.node[each.key].address

    dynamic "access_config" {
      for_each = var.ssh_via == "external" ? [1] : []
      content {}
    }
  }

  scheduling {
    provisioning_model = var.spot ? "SPOT" : "STANDARD"
    preemptible        = var.spot
    # Spot machines can't be restarted by Google; one whose time is limited is left to the next apply, too.
    automatic_restart   = !var.spot && var.lifetime_seconds == 0
    on_host_maintenance = var.spot ? "TERMINATE" : "MIGRATE"
    # One action for the end of the lifetime and for Google's taking a spot machine back.
    instance_termination_action = var.lifetime_seconds > 0 ? "DELETE" : (var.spot ? "STOP" : null)

    dynamic "max_run_duration" {
      for_each = var.lifetime_seconds > 0 ? [var.lifetime_seconds] : []
      content {
        seconds = max_run_duration.value
      }
    }
  }

  shielded_instance_config {
    enable_secure_boot          = var.secure_boot
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  # None by default: nothing on these machines calls Google's APIs.
  dynamic "service_account" {
    for_each = var.service_account == null ? [] : [var.service_account]
    content {
      email  = service_account.value.email
      scopes = service_account.value.scopes
    }
  }

  metadata = merge(
    # With OS Login, Google says who may log in, and keys in the metadata are not read.
    { for user, key in { (var.ssh_user) = var.ssh_public_key } : "ssh-keys" => "${user}:${key}" if !var.os_login },
    {
      enable-oslogin         = var.os_login ? "TRUE" : "FALSE"
      block-project-ssh-keys = "TRUE"
      # The guest agent writes the machine's host keys there: who logs in can know them beforehand.
      enable-guest-attributes = "TRUE"
      startup-script          = file("${path.module}/startup.sh")
    },
  )

  lifecycle {
    replace_triggered_by = [
      # A disk that is replaced has the name of the old one, so that the machine would not change, and be
      # left without. One that grows keeps its id.
      google_compute_disk.data[each.key].disk_id,
      terraform_data.disk[each.key],
      # A subnet that moves takes its addresses along, and none is free while a machine holds it.
      google_compute_address.node[each.key].address_id,
    ]

    ignore_changes = [
      description,
      # A newer image in the family, or another type of disk below it, must not replace a machine that runs.
      boot_disk[0].initialize_params[0].image,
      boot_disk[0].initialize_params[0].type,
      boot_disk[0].initialize_params[0].labels,
      # Google changes these on a stopped machine only, and would stop all at once.
      service_account,
      shielded_instance_config,
      # Google's provider replaces the machine when its remaining time changes; raftctl extends it in place.
      scheduling[0].max_run_duration,
      scheduling[0].instance_termination_action,
      scheduling[0].automatic_restart,
    ]
  }
}
