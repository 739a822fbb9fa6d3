//! Which machines Terraform is to start: those that are off. One that is new runs of itself, and is not waited
//! for; and to ask for a start of one that runs, or no longer to ask for it, would change that machine. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::gcloud;
use super::pulled::Pulled;

/// Nodes, by their names in Terraform.
pub type Names = BTreeSet<String>;

/// The machines to start as Terraform's state has them: a guess, which spares a second plan wherever it is right.
/// [`super::changes::to_start`] is the judge.
#[must_use]
pub fn of_state(state: &Pulled) -> Names {
    let machines = state.of_type("google_compute_instance");
    let started = machines.filter(|(_, machine)| is_to_start(machine));
    started.map(|(name, _)| name.to_owned()).collect()
}

/// Whether a machine, with its attributes in Terraform, is to be started: it is off, or Terraform has been asked
/// for that before.
#[must_use]
pub fn is_to_start(machine: &Value) -> bool {
    let status = machine["current_status"].as_str();
    machine["desired_status"].is_string() || status.is_some_and(|status| !gcloud::is_on(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A machine that is off is started, and so is one for which that was asked before, by whichever raftctl;
    // one that runs, or is about to, is left alone. A state of a form that is not known says nothing.
    #[test]
    fn who_is_off_is_started() {
        let state = |version: u64| {
            let machine = |name: &str, desired: Value, current: &str| serde_json::json!({"index_key": name, "attributes": {"desired_status": desired, "current_status": current}});
            let machines = [
                machine("n1", Value::Null, "RUNNING"),
                machine("n2", Value::Null, "TERMINATED"),
                machine("n3", "RUNNING".into(), "RUNNING"),
                machine("n4", Value::Null, "STAGING"),
                machine("n5", Value::Null, "STOPPING"),
            ];
            let disk = serde_json::json!({"index_key": "n9", "attributes": {}});
            serde_json::json!({"version": version, "resources": [
                {"type": "google_compute_disk", "instances": [disk]}, {"type": "google_compute_instance", "instances": machines},
            ]})
            .to_string()
        };
        assert_eq!(
            of_state(&Pulled::read(&state(4))),
            ["n2", "n3", "n5"].map(String::from).into()
        );
        for unknown in [state(5), String::new(), "no state".into()] {
            assert_eq!(of_state(&Pulled::read(&unknown)), Names::new());
        }
    }
}
