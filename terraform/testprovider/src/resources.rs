//! The six resource types, with the attributes that the module uses and those that Google computes
//! beside them. Names, types, defaults and what forces a new resource are those of Google's
//! provider 7.45.

use crate::schema::{
    Block, NestedBlock, boolean, number, string, string_list, string_map, string_set,
};

/// The provider's own settings.
#[must_use]
pub fn provider() -> Block {
    Block {
        attributes: vec![
            string("project").optional(),
            string("region").optional(),
            string("zone").optional(),
            string("credentials").optional(),
            string("access_token").optional(),
            boolean("add_terraform_attribution_label").optional(),
        ],
        blocks: Vec::new(),
    }
}

/// Every resource type by name.
pub const TYPES: [&str; 6] = [
    "google_compute_network",
    "google_compute_subnetwork",
    "google_compute_firewall",
    "google_compute_address",
    "google_compute_disk",
    "google_compute_instance",
];

/// The description of a resource type; none where there is no such type.
#[must_use]
pub fn schema(resource_type: &str) -> Option<Block> {
    let mut block = match resource_type {
        "google_compute_network" => network(),
        "google_compute_subnetwork" => subnetwork(),
        "google_compute_firewall" => firewall(),
        "google_compute_address" => address(),
        "google_compute_disk" => disk(),
        "google_compute_instance" => instance(),
        _ => return None,
    };
    // Every resource has these.
    block.attributes.extend([
        string("id").optional().computed(),
        string("project").optional().computed().force_new(),
        string("self_link").computed(),
        string("creation_timestamp").computed(),
    ]);
    if resource_type == "google_compute_network" {
        // The one type that does not tell when it was made.
        block.attributes.pop();
    }
    Some(block)
}

fn network() -> Block {
    Block {
        attributes: vec![
            string("name").required().force_new(),
            string("description").optional().force_new(),
            boolean("auto_create_subnetworks").default(true).force_new(),
            boolean("delete_default_routes_on_create").default(false),
            string("routing_mode")
                .optional()
                .computed()
                .one_of(&["REGIONAL", "GLOBAL"]),
            number("mtu").optional().computed(),
            string("gateway_ipv4").computed(),
            string("network_id").computed(),
        ],
        blocks: Vec::new(),
    }
}

fn subnetwork() -> Block {
    Block {
        attributes: vec![
            string("name").required().force_new(),
            string("network").required().force_new(),
            string("description").optional().force_new(),
            // A range that grows is changed in place; any other change is a rule of its own.
            string("ip_cidr_range").optional().computed(),
            string("region").optional().computed().force_new(),
            boolean("private_ip_google_access").optional().computed(),
            string("purpose").optional().computed(),
            string("stack_type").optional().computed().one_of(&[
                "IPV4_ONLY",
                "IPV4_IPV6",
                "IPV6_ONLY",
            ]),
            string("gateway_address").computed(),
            number("subnetwork_id").computed(),
        ],
        blocks: Vec::new(),
    }
}

fn firewall() -> Block {
    let rule = || Block {
        attributes: vec![
            string("protocol").required(),
            string_list("ports").optional(),
        ],
        blocks: Vec::new(),
    };
    Block {
        attributes: vec![
            string("name").required().force_new(),
            string("network").required(),
            string("description").optional(),
            string("direction")
                .optional()
                .computed()
                .force_new()
                .one_of(&["INGRESS", "EGRESS"]),
            boolean("disabled").optional(),
            number("priority").default(1000u32),
            string_set("destination_ranges").optional().computed(),
            string_set("source_ranges").optional(),
            string_set("source_tags").optional(),
            string_set("target_tags").optional(),
        ],
        blocks: vec![
            NestedBlock::set("allow", rule()),
            NestedBlock::set("deny", rule()),
        ],
    }
}

fn address() -> Block {
    Block {
        attributes: [
            vec![
                string("name").required().force_new(),
                string("description").optional().force_new(),
                string("address").optional().computed().force_new(),
                string("address_type")
                    .default("EXTERNAL")
                    .force_new()
                    .one_of(&["INTERNAL", "EXTERNAL"]),
                string("network").optional().force_new(),
                string("subnetwork").optional().computed().force_new(),
                string("network_tier")
                    .optional()
                    .computed()
                    .force_new()
                    .one_of(&["PREMIUM", "STANDARD"]),
                number("prefix_length").optional().computed().force_new(),
                string("purpose").optional().computed().force_new(),
                string("region").optional().computed().force_new(),
                string("address_id").computed(),
                string_list("users").computed(),
            ],
            labels(),
        ]
        .concat(),
        blocks: Vec::new(),
    }
}

fn disk() -> Block {
    Block {
        attributes: [
            vec![
                string("name").required().force_new(),
                string("description").optional().force_new(),
                string("image").optional().force_new(),
                string("snapshot").optional().force_new(),
                // Grows in place; shrinking is a rule of its own.
                number("size").optional().computed(),
                string("type").default("pd-standard").force_new(),
                string("zone").optional().computed().force_new(),
                number("physical_block_size_bytes")
                    .optional()
                    .computed()
                    .force_new(),
                boolean("create_snapshot_before_destroy").default(false),
                string("disk_id").computed(),
                string_list("users").computed(),
            ],
            labels(),
        ]
        .concat(),
        blocks: vec![disk_encryption_key()],
    }
}

fn disk_encryption_key() -> NestedBlock {
    let block = Block {
        attributes: vec![
            string("kms_key_self_link").optional().force_new(),
            string("kms_key_service_account").optional().force_new(),
            string("sha256").computed(),
        ],
        blocks: Vec::new(),
    };
    NestedBlock::list("disk_encryption_key", block)
        .single()
        .force_new()
}

/// What every resource with labels has beside them.
fn labels() -> Vec<crate::schema::Attribute> {
    vec![
        string_map("labels").optional(),
        string_map("terraform_labels").computed(),
        string_map("effective_labels").computed(),
        string("label_fingerprint").computed(),
    ]
}

fn instance() -> Block {
    let mut attributes = vec![
        string("name").required().force_new(),
        string("machine_type").required(),
        string("zone").optional().computed().force_new(),
        string("description").optional(),
        string("hostname").optional().force_new(),
        boolean("allow_stopping_for_update").optional(),
        boolean("can_ip_forward").default(false),
        boolean("deletion_protection").default(false),
        string("desired_status")
            .optional()
            .one_of(&["RUNNING", "TERMINATED", "SUSPENDED"]),
        string("current_status").computed(),
        string_map("metadata").optional(),
        string("metadata_startup_script").optional(),
        string("min_cpu_platform").optional().computed(),
        string_set("tags").optional(),
        string("cpu_platform").computed(),
        string("instance_id").computed(),
        string("metadata_fingerprint").computed(),
        string("tags_fingerprint").computed(),
    ];
    attributes.extend(labels());
    Block {
        attributes,
        blocks: vec![
            boot_disk(),
            attached_disk(),
            network_interface(),
            scheduling(),
            service_account(),
            shielded_instance_config(),
        ],
    }
}

fn boot_disk() -> NestedBlock {
    let initialize_params = Block {
        attributes: vec![
            number("size").optional().computed(),
            string("type").optional().computed().force_new(),
            string("image").optional().computed().force_new(),
            string_map("labels").optional().computed(),
        ],
        blocks: Vec::new(),
    };
    let block = Block {
        attributes: vec![
            boolean("auto_delete").default(true),
            string("device_name").optional().computed().force_new(),
            string("kms_key_self_link")
                .optional()
                .computed()
                .force_new(),
            string("mode")
                .default("READ_WRITE")
                .force_new()
                .one_of(&["READ_WRITE", "READ_ONLY"]),
            string("source").optional().computed().force_new(),
        ],
        blocks: vec![
            NestedBlock::list("initialize_params", initialize_params)
                .single()
                .force_new(),
        ],
    };
    NestedBlock::list("boot_disk", block)
        .single()
        .required()
        .force_new()
}

fn attached_disk() -> NestedBlock {
    let block = Block {
        attributes: vec![
            string("source").required(),
            string("device_name").optional().computed(),
            string("mode")
                .default("READ_WRITE")
                .one_of(&["READ_WRITE", "READ_ONLY"]),
        ],
        blocks: Vec::new(),
    };
    NestedBlock::list("attached_disk", block)
}

fn network_interface() -> NestedBlock {
    let access_config = Block {
        attributes: vec![
            string("nat_ip").optional().computed(),
            string("network_tier").optional().computed(),
            string("public_ptr_domain_name").optional(),
        ],
        blocks: Vec::new(),
    };
    let block = Block {
        attributes: vec![
            string("network").optional().computed(),
            string("subnetwork").optional().computed(),
            string("subnetwork_project").optional().computed(),
            string("network_ip").optional().computed(),
            string("name").computed(),
            string("nic_type").optional().force_new().one_of(&[
                "GVNIC",
                "VIRTIO_NET",
                "IDPF",
                "MRDMA",
                "IRDMA",
            ]),
            string("stack_type").optional().computed().one_of(&[
                "IPV4_ONLY",
                "IPV4_IPV6",
                "IPV6_ONLY",
            ]),
        ],
        blocks: vec![NestedBlock::list("access_config", access_config)],
    };
    NestedBlock::list("network_interface", block)
        .required()
        .force_new()
}

fn scheduling() -> NestedBlock {
    let max_run_duration = Block {
        attributes: vec![
            number("seconds").required().force_new(),
            number("nanos").optional().force_new(),
        ],
        blocks: Vec::new(),
    };
    let block = Block {
        attributes: vec![
            string("on_host_maintenance").optional().computed(),
            boolean("automatic_restart").default(true),
            boolean("preemptible").default(false).force_new(),
            string("provisioning_model")
                .optional()
                .computed()
                .force_new(),
            string("instance_termination_action").optional(),
        ],
        blocks: vec![
            NestedBlock::list("max_run_duration", max_run_duration)
                .single()
                .force_new(),
        ],
    };
    NestedBlock::list("scheduling", block).single()
}

fn service_account() -> NestedBlock {
    let block = Block {
        attributes: vec![
            string("email").optional().computed(),
            string_set("scopes").required(),
        ],
        blocks: Vec::new(),
    };
    NestedBlock::list("service_account", block).single()
}

fn shielded_instance_config() -> NestedBlock {
    let block = Block {
        attributes: vec![
            boolean("enable_secure_boot").default(false),
            boolean("enable_vtpm").default(true),
            boolean("enable_integrity_monitoring").default(true),
        ],
        blocks: Vec::new(),
    };
    NestedBlock::list("shielded_instance_config", block).single()
}
