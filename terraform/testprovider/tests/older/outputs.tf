output "raftctl" {
  description = "What raftctl needs to know about the machines. It holds no secret."

  value = {
    schema     = 1
    project_id = var.project_id
    cluster    = var.cluster
    ssh_user   = var.ssh_user

    nodes = {
      for name, instance in google_compute_instance.node : name => {
        instance    = instance.name
        zone        = instance.zone
        region      = var.nodes[name].region
        internal_ip = google_compute_address.node[name].address
        # Google calls it "" while the machine is off.
        external_ip = try(coalesce(instance.network_interface[0].access_config[0].nat_ip), null)
        data_device = "/dev/disk/by-id/google-${local.data_device_name}"
        data_disk   = google_compute_disk.data[name].name
      }
    }
  }
}
