locals {
  # Everything but the data disks goes when only those are to be kept.
  hosts   = var.data_disks_only ? {} : var.nodes
  regions = var.data_disks_only ? {} : var.regions
  network = var.data_disks_only ? 0 : 1

  # One network tag marks the cluster's own machines: firewall rules name it, and nothing else wears it.
  tag = "raft-${var.cluster}"

  # Identity-Aware Proxy opens its TCP forwarding connections from this range alone.
  iap_range  = "35.235.240.0/20"
  ssh_ranges = var.ssh_via == "iap" ? [local.iap_range] : var.operator_cidrs

  data_device_name = "raft-data"

  labels = merge(var.labels, { raft-cluster = var.cluster })
}

resource "google_compute_network" "cluster" {
  count = local.network

  name                    = "raft-${var.cluster}"
  description             = "Raft cluster ${var.cluster}"
  auto_create_subnetworks = false
}

resource "google_compute_subnetwork" "region" {
  for_each = local.regions

  name                     = "raft-${var.cluster}-${each.key}"
  network                  = google_compute_network.cluster[0].id
  region                   = each.key
  ip_cidr_range            = each.value
  private_ip_google_access = true
}

resource "google_compute_firewall" "ssh" {
  count = local.network

  name          = "raft-${var.cluster}-ssh"
  description   = "SSH from the operator"
  network       = google_compute_network.cluster[0].id
  direction     = "INGRESS"
  source_ranges = local.ssh_ranges
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = ["22"]
  }

  lifecycle {
    # Google reads a rule without a source as one for every address.
    precondition {
      condition     = length(local.ssh_ranges) > 0
      error_message = "With ssh_via = \"external\", operator_cidrs must name at least one range, such as [\"198.51.100.7/32\"]; or set ssh_via = \"iap\"."
    }
  }
}

resource "google_compute_firewall" "peers" {
  count = local.network

  name        = "raft-${var.cluster}-peers"
  description = "Raft between the cluster's own machines"
  network     = google_compute_network.cluster[0].id
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
}

resource "google_compute_firewall" "clients" {
  count = local.network == 1 && length(var.client_cidrs) > 0 ? 1 : 0

  name          = "raft-${var.cluster}-clients"
  description   = "Clients of the key-value store"
  network       = google_compute_network.cluster[0].id
  direction     = "INGRESS"
  source_ranges = var.client_cidrs
  target_tags   = [local.tag]

  allow {
    protocol = "tcp"
    ports    = [tostring(var.client_port)]
  }
}

# Peers know each other by address, so an address outlives its machine.
resource "google_compute_address" "node" {
  for_each = local.hosts

  name         = "raft-${var.cluster}-${each.key}"
  address_type = "INTERNAL"
  region       = each.value.region
  subnetwork   = google_compute_subnetwork.region[each.value.region].id
  labels       = local.labels
}

# Apart from the boot disk and from the machine: a node's log survives both.
resource "google_compute_disk" "data" {
  for_each = var.nodes

  name   = "raft-${var.cluster}-${each.key}-data"
  zone   = each.value.zone
  type   = var.data_disk_type
  size   = var.data_disk_gb
  labels = merge(local.labels, { raft-node = each.key })
}

resource "google_compute_instance" "node" {
  # A key per node, never a count: removing a node in the middle must not shift the rest.
  for_each = local.hosts

  name         = "raft-${var.cluster}-${each.key}"
  zone         = each.value.zone
  machine_type = coalesce(each.value.machine_type, var.machine_type)
  tags         = [local.tag]
  labels       = merge(local.labels, { raft-node = each.key })

  # A machine that was stopped, or that Google preempted, is started by the next apply.
  desired_status = "RUNNING"

  # Google changes the machine type of a stopped machine only.
  allow_stopping_for_update = true

  boot_disk {
    initialize_params {
      image = var.image
      size  = var.boot_disk_gb
      type  = var.boot_disk_type
    }
  }

  attached_disk {
    source      = google_compute_disk.data[each.key].self_link
    device_name = local.data_device_name
  }

  network_interface {
    subnetwork = google_compute_subnetwork.region[each.value.region].id
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
    automatic_restart           = !var.spot && var.lifetime_seconds == 0
    on_host_maintenance         = var.spot ? "TERMINATE" : "MIGRATE"
    instance_termination_action = var.lifetime_seconds > 0 ? "DELETE" : (var.spot ? "STOP" : null)

    dynamic "max_run_duration" {
      for_each = var.lifetime_seconds > 0 ? [var.lifetime_seconds] : []
      content {
        seconds = max_run_duration.value
      }
    }
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  # No service_account block: nothing on these machines calls Google's APIs.

  metadata = {
    ssh-keys               = "${var.ssh_user}:${var.ssh_public_key}"
    enable-oslogin         = "FALSE"
    block-project-ssh-keys = "TRUE"
    startup-script         = file("${path.module}/startup.sh")
  }

  lifecycle {
    # A disk that is replaced has the name of the old one, so that the machine would not change, and be left
    # without. One that grows keeps its id.
    replace_triggered_by = [google_compute_disk.data[each.key].disk_id]

    ignore_changes = [
      # A newer image in the family, or another type of disk below it, must not replace a machine that runs.
      boot_disk[0].initialize_params[0].image,
      boot_disk[0].initialize_params[0].type,
      # Google's provider replaces the machine when its remaining time changes; raftctl extends it in place.
      scheduling[0].max_run_duration,
      scheduling[0].instance_termination_action,
      scheduling[0].automatic_restart,
    ]
  }
}
