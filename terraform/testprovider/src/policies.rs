//! Policies of an organization, which a test puts in force: what each refuses, and in which words of Google's.
//! Pure.

use serde::Deserialize;

use crate::faults::Target;
use crate::value::Value;

/// A policy, by the name of its constraint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// Disks are encrypted with a key of the organization's own.
    RestrictNonCmekServices,
    /// SSH goes by OS Login.
    RequireOsLogin,
    /// No machine has an external address.
    VmExternalIpAccess,
    /// Machines start what is signed, and nothing else.
    RequireShieldedVm,
}

impl Policy {
    /// What Google says to the creation of a resource, where the policy forbids it.
    #[must_use]
    pub fn refusal(self, target: &Target, planned: &Value) -> Option<String> {
        let Target { project, .. } = target;
        let is_machine = target.resource_type == "google_compute_instance";
        let is_disk = target.resource_type == "google_compute_disk";
        let boot_key = planned.get("boot_disk").at(0).get("kms_key_self_link");
        let words = match self {
            Policy::RestrictNonCmekServices => {
                let is_open = is_disk && planned.get("disk_encryption_key").items().is_empty();
                (is_open || is_machine && boot_key.is_null()).then(|| {
                    format!(
                        "Constraint constraints/gcp.restrictNonCmekServices violated for projects/{project} attempting \
                         to create or modify a disk without CMEK."
                    )
                })
            }
            Policy::RequireOsLogin => {
                let setting = planned.get("metadata").get("enable-oslogin").text();
                (is_machine && setting == Some("FALSE")).then(|| {
                    format!(
                        "Constraint constraints/compute.requireOsLogin violated for project {project}. The \
                         enable-oslogin metadata key may not be set to FALSE."
                    )
                })
            }
            Policy::VmExternalIpAccess => {
                let access = planned.get("network_interface").at(0).get("access_config");
                (is_machine && !access.items().is_empty()).then(|| {
                    format!(
                        "Constraint constraints/compute.vmExternalIpAccess violated for project {project}. Add \
                         instance {} to the constraint to use external IP with it.",
                        target.path()
                    )
                })
            }
            Policy::RequireShieldedVm => {
                let shield = planned.get("shielded_instance_config").at(0);
                let is_secure = shield.get("enable_secure_boot") == &Value::from(true);
                (is_machine && !is_secure).then(|| {
                    format!(
                        "Constraint constraints/compute.requireShieldedVm violated for project projects/{project}. \
                         Secure Boot is not enabled in the 'shielded_instance_config' field."
                    )
                })
            }
        };
        words.map(|words| {
            format!(
                "Error creating {}: googleapi: Error 412: {words} See \
                 https://cloud.google.com/resource-manager/docs/organization-policy/org-policy-constraints for more \
                 information., conditionNotMet",
                target.title()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: [Policy; 4] = [
        Policy::RestrictNonCmekServices,
        Policy::RequireOsLogin,
        Policy::VmExternalIpAccess,
        Policy::RequireShieldedVm,
    ];

    // Each policy refuses what goes against it, by its own name, and nothing else.
    #[test]
    fn each_policy_refuses_what_goes_against_it() {
        let target = Target {
            resource_type: "google_compute_instance",
            name: "raft-demo-n1",
            zone: "us-central1-a",
            project: "p",
        };
        let machine = |against: Option<Policy>| {
            let is = |policy: Policy| against == Some(policy);
            let key = (!is(Policy::RestrictNonCmekServices)).then_some("key");
            let os_login = if is(Policy::RequireOsLogin) {
                "FALSE"
            } else {
                "TRUE"
            };
            let access = if is(Policy::VmExternalIpAccess) {
                json!([{}])
            } else {
                json!([])
            };
            Value::from_json(&json!({
                "boot_disk": [{"kms_key_self_link": key}], "metadata": {"enable-oslogin": os_login},
                "network_interface": [{"access_config": access}],
                "shielded_instance_config": [{"enable_secure_boot": !is(Policy::RequireShieldedVm)}],
            }))
        };
        for policy in ALL {
            let refused = policy.refusal(&target, &machine(Some(policy))).unwrap();
            let name = format!("{policy:?}");
            assert!(
                refused.to_lowercase().contains(&name.to_lowercase()),
                "{refused}"
            );
            assert_eq!(policy.refusal(&target, &machine(None)), None, "{policy:?}");
        }
        let network = Target {
            resource_type: "google_compute_network",
            ..target
        };
        for policy in ALL {
            assert_eq!(policy.refusal(&network, &machine(Some(policy))), None);
        }
    }
}
