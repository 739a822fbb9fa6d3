//! What the loss of one zone does to a cluster, by where its nodes are to be. Pure.

use std::collections::BTreeMap;

use super::allocation::Allocation;

/// The zones without which the others are no majority, in words, and what to do about it; nothing where the cluster
/// survives the loss of any one.
#[must_use]
pub fn remark(allocation: &Allocation) -> Option<(String, &'static str)> {
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    for at in allocation.nodes.values() {
        *zones.entry(&at.zone).or_default() += 1;
    }
    let all = allocation.nodes.len();
    let majority = all / 2 + 1;
    let is_needed = |(_, count): &(&&str, &usize)| all - **count < majority;
    let needed: Vec<(&str, usize)> = zones
        .iter()
        .filter(is_needed)
        .map(|(zone, count)| (*zone, *count))
        .collect();
    let text = match needed.as_slice() {
        _ if all < 2 => return None,
        [] => return None,
        [(zone, count)] if *count == all => {
            format!("all {all} nodes are in {zone}: while that zone is down, so is the cluster")
        }
        [(zone, count)] => format!(
            "{zone} has {count} of the {all} nodes, and the others are no majority: while that zone is down, so is the \
             cluster"
        ),
        several => {
            let names: Vec<&str> = several.iter().map(|(zone, _)| *zone).collect();
            format!(
                "the {all} nodes are split evenly, and none of {} has a majority without another: while one of them is \
                 down, so is the cluster",
                names.join(", ")
            )
        }
    };
    let advice = "with three zones or more (gcp.zones), none of which has as many as the others together, it survives \
                  the loss of one";
    Some((text, advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(zones: &[&str]) -> String {
        let list = (1..).zip(zones);
        let nodes = list.map(|(id, zone)| format!("{{id: {id}, zone: us-central1-{zone}}}"));
        let nodes: Vec<String> = nodes.collect();
        let yaml = format!(
            "name: demo\nprovider: gcp\nnodes: [{}]\ngcp: {{project: my-project}}\n",
            nodes.join(", ")
        );
        let cluster = crate::cluster::parse(&yaml, "x", ".".into(), &|_| None).unwrap();
        let allocation = Allocation::default().extended(&cluster).unwrap();
        remark(&allocation).map_or(String::new(), |(text, _)| text)
    }

    // One zone for all, one that holds a majority, an even split: told. Where no zone is needed, and where there is but
    // one node, nothing is.
    #[test]
    fn a_zone_that_is_needed_is_told() {
        assert_eq!(told(&["a", "b", "c"]), "");
        assert_eq!(told(&["a", "a", "b", "b", "c"]), "");
        assert_eq!(told(&["a"]), "");
        assert!(told(&["a", "a", "a"]).starts_with("all 3 nodes are in us-central1-a:"));
        let majority = told(&["a", "a", "b"]);
        assert!(
            majority.starts_with("us-central1-a has 2 of the 3 nodes"),
            "{majority}"
        );
        let even = told(&["a", "a", "b", "b"]);
        assert!(
            even.contains("split evenly, and none of us-central1-a, us-central1-b"),
            "{even}"
        );
        let half = told(&["a", "a", "b", "c"]);
        assert!(
            half.starts_with("us-central1-a has 2 of the 4 nodes"),
            "{half}"
        );
        assert!(told(&["a", "b"]).contains("split evenly"));
    }
}
