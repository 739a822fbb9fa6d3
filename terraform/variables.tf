variable "project_id" {
  description = "Google Cloud project that holds everything this module makes."
  type        = string

  validation {
    condition     = can(regex("^[a-z][-a-z0-9]{4,28}[a-z0-9]$", var.project_id))
    error_message = "Give the project's id (6 to 30 lower-case letters, digits and hyphens), not its number or its display name."
  }
}

variable "cluster" {
  description = "Name of the cluster, and first part of the name of every resource."
  type        = string

  validation {
    condition     = can(regex("^[a-z]([-a-z0-9]{0,30}[a-z0-9])?$", var.cluster))
    error_message = "A cluster name starts with a lower-case letter, has at most 32 lower-case letters, digits and hyphens, and ends with a letter or digit."
  }
}

variable "regions" {
  description = "Subnet of each region: region name to CIDR. A range that is in use must never change, since Google then replaces the subnet and every machine in it."
  type        = map(string)

  validation {
    condition     = alltrue([for cidr in values(var.regions) : can(cidrhost(cidr, 0))])
    error_message = "Every region needs a CIDR such as 10.80.0.0/24."
  }

  validation {
    condition     = length(distinct(values(var.regions))) == length(var.regions)
    error_message = "Two regions share one CIDR; every region needs a range of its own."
  }
}

variable "nodes" {
  description = "Machines by name: the node's id, its zone and region, and optionally a machine type of its own, whether it is to be started where it is off (start_machines where that is absent), and which parts it has, of address, disk and machine (all of them where that is absent; a machine needs the other two). Adding or removing a name touches that machine alone."
  type = map(object({
    id           = number
    zone         = string
    region       = string
    machine_type = optional(string)
    start        = optional(bool)
    parts        = optional(set(string))
  }))

  validation {
    condition     = alltrue([for name in keys(var.nodes) : can(regex("^[a-z]([-a-z0-9]{0,18}[a-z0-9])?$", name))])
    error_message = "A node name starts with a lower-case letter and has at most 20 lower-case letters, digits and hyphens."
  }

  validation {
    condition     = alltrue([for node in values(var.nodes) : can(regex("^${node.region}-[a-z]$", node.zone))])
    error_message = "A node's zone must lie in its region: zone us-central1-a needs region us-central1."
  }

  validation {
    condition     = length(distinct([for node in values(var.nodes) : node.id])) == length(var.nodes)
    error_message = "Two nodes share one id."
  }

  validation {
    condition = alltrue([
      for node in values(var.nodes) : node.parts == null ? true : (
        length(setsubtract(node.parts, ["address", "disk", "machine"])) == 0 &&
        (!contains(node.parts, "machine") || length(node.parts) == 3)
      )
    ])
    error_message = "The parts of a node are address, disk and machine, and a machine needs the other two."
  }
}

variable "machine_type" {
  description = "Machine type of every node that names none itself."
  type        = string
  default     = "e2-small"
}

variable "image" {
  description = "Boot image by its full path. A newer image of the family doesn't replace machines that run already."
  type        = string
  default     = "projects/debian-cloud/global/images/family/debian-12"

  validation {
    condition     = startswith(var.image, "projects/")
    error_message = "Give the image by its full path, such as projects/debian-cloud/global/images/family/debian-12."
  }
}

variable "boot_disk_gb" {
  description = "Size of the boot disk, GB."
  type        = number
  default     = 10
}

variable "boot_disk_type" {
  description = "Type of the boot disk. Some machine types take none but hyperdisk-balanced. Read when a machine is made: a later change leaves running machines alone."
  type        = string
  default     = "pd-balanced"
}

variable "data_disk_gb" {
  description = "Size of the data disk, GB. It can grow in place and never shrink."
  type        = number
  default     = 10

  validation {
    condition     = var.data_disk_gb >= 10
    error_message = "A data disk has at least 10 GB."
  }
}

variable "data_disk_type" {
  description = "Type of the data disk. The log is synced on every write, so its latency is the cluster's: pd-ssd or pd-balanced, not pd-standard."
  type        = string
  default     = "pd-balanced"
}

variable "ssh_user" {
  description = "Account that the key logs in as; the guest agent makes it, with sudo."
  type        = string
  default     = "raft"

  validation {
    condition     = can(regex("^[a-z_][-a-z0-9_]{0,31}$", var.ssh_user)) && var.ssh_user != "root"
    error_message = "The SSH user is an ordinary Linux account name, not root: Google's images refuse a root login."
  }
}

variable "ssh_public_key" {
  description = "Public key in OpenSSH's format. The private key never comes near Terraform."
  type        = string

  validation {
    condition     = can(regex("^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp[0-9]+) [A-Za-z0-9+/=]+( .*)?$", var.ssh_public_key))
    error_message = "Give one line of a .pub file, such as \"ssh-ed25519 AAAA... name\"."
  }
}

variable "ssh_via" {
  description = "How SSH reaches the machines: external (an external address each, open to operator_cidrs) or iap (no external address; Google's Identity-Aware Proxy)."
  type        = string
  default     = "external"

  validation {
    condition     = contains(["external", "iap"], var.ssh_via)
    error_message = "ssh_via is external or iap."
  }
}

variable "operator_cidrs" {
  description = "Ranges that may open SSH when ssh_via is external, such as [\"198.51.100.7/32\"]."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.operator_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Every entry of operator_cidrs is a CIDR such as 198.51.100.7/32."
  }
}

variable "client_cidrs" {
  description = "Ranges that may reach the client port. Empty: nobody from outside, and raftctl goes through SSH."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : can(cidrhost(cidr, 0))])
    error_message = "Every entry of client_cidrs is a CIDR such as 198.51.100.0/24."
  }
}

variable "peer_port" {
  description = "TCP port on which nodes talk to each other; open to the cluster's own machines only."
  type        = number
  default     = 7400
}

variable "client_port" {
  description = "TCP port on which nodes serve clients; open to client_cidrs only."
  type        = number
  default     = 7500
}

variable "lifetime_seconds" {
  description = "A machine deletes itself this long after it started, so that a forgotten cluster stops costing money; data disks stay. 0: never. Read when a machine is made: a later change leaves running machines alone."
  type        = number
  default     = 0

  validation {
    condition     = var.lifetime_seconds == 0 || (var.lifetime_seconds >= 60 && var.lifetime_seconds <= 10368000)
    error_message = "A lifetime is 60 seconds to 120 days (10368000 seconds), which is also the most that Google takes; 0 means no limit."
  }
}

variable "spot" {
  description = "Use spot machines: far cheaper, and Google may take them back at any time. One that it takes back is stopped, and with a lifetime deleted; its data disk and address stay, and the next apply brings it back."
  type        = bool
  default     = false
}

variable "labels" {
  description = "Labels added to machines and their disks, and to addresses when they are made."
  type        = map(string)
  default     = {}
}

variable "network" {
  description = "Id or self link of a network that is there already, such as projects/host/global/networks/shared. Without subnetworks, the module makes subnets of its own in it. Another network replaces all machines."
  type        = string
  default     = null
}

variable "subnetworks" {
  description = "Id or self link of a subnetwork that is there already for each region: then regions is not read, and no network is made. Addresses for the machines are reserved in it."
  type        = map(string)
  default     = {}
}

variable "network_project" {
  description = "Project that holds the network, where it is another one (the host of a shared VPC): firewall rules are made there."
  type        = string
  default     = null
}

variable "firewall_rules" {
  description = "Whether this module makes the firewall rules. Without them, somebody else lets SSH, and the machines with the tag raft-<cluster> to each other's peer port."
  type        = bool
  default     = true
}

variable "os_login" {
  description = "Log in by way of OS Login, as the policy constraints/compute.requireOsLogin demands: the key given here is not used, and Google says who may log in."
  type        = bool
  default     = false
}

variable "kms_key" {
  description = "Cloud KMS key for boot and data disks, such as projects/P/locations/L/keyRings/R/cryptoKeys/K. Google encrypts with a key of its own where none is given. Another key replaces the disks."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "A key is given as projects/P/locations/L/keyRings/R/cryptoKeys/K."
  }
}

variable "service_account" {
  description = "Service account of the machines: email, and scopes where they are to be fewer than all. None: nothing on them can call Google's APIs. Read when a machine is made."
  type = object({
    email  = string
    scopes = optional(list(string), ["https://www.googleapis.com/auth/cloud-platform"])
  })
  default = null
}

variable "secure_boot" {
  description = "Start the machines with Secure Boot, which an image of one's own may not bear. Read when a machine is made."
  type        = bool
  default     = true
}

variable "start_machines" {
  description = "Start machines that are off, where a node says nothing of its own (start). Without it an apply leaves them off, and makes new ones five seconds sooner."
  type        = bool
  default     = true
}

variable "owner" {
  description = "Mark of whoever made this cluster, such as a fingerprint: it goes into every description and into the label raft-owner of machines and disks, so that another cluster of the same name can be told from this one. Read when a thing is made; machines and disks get the label later, too."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[-_a-z0-9]{0,63}$", var.owner))
    error_message = "An owner's mark has at most 63 lower-case letters, digits, hyphens and underscores, as a label of Google's."
  }
}

variable "data_disks_only" {
  description = "Keep the data disks and remove everything else. The next apply without it attaches them again."
  type        = bool
  default     = false
}
