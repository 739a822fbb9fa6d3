//! Who votes by now, as bytes in the metadata of a reply.

use crate::kv::ClusterMembers;
use prost::Message;

/// Most bytes: metadata is small, and some libraries take 8 KiB of it, after base64.
const BYTES_MAX: usize = 4 * 1024;

impl ClusterMembers {
    /// The bytes; as many voters as there is room for.
    pub fn to_bytes(mut self) -> Vec<u8> {
        while self.encoded_len() > BYTES_MAX {
            self.voters.pop();
        }
        self.encode_to_vec()
    }

    /// What is in these bytes; nothing in those that no node sends.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let short = bytes.len() <= BYTES_MAX;
        short.then(|| ClusterMembers::decode(bytes).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::MemberAddress;

    fn voters(count: u64, address: &str) -> ClusterMembers {
        let voter = |node_id| MemberAddress {
            node_id,
            client_address: address.into(),
        };
        ClusterMembers {
            index: 7,
            voters: (1..=count).map(voter).collect(),
        }
    }

    // They come back as they were, and what is too long is cut to what fits.
    #[test]
    fn as_many_as_fit() {
        let few = voters(5, "host:7500");
        assert_eq!(
            ClusterMembers::from_bytes(&few.clone().to_bytes()),
            Some(few)
        );
        let many = voters(32, &"h".repeat(300)).to_bytes();
        assert!(many.len() <= BYTES_MAX);
        let read = ClusterMembers::from_bytes(&many).unwrap();
        assert_eq!((read.index, read.voters.len()), (7, 13));
        assert_eq!(ClusterMembers::from_bytes(&[0; BYTES_MAX + 1]), None);
        assert_eq!(ClusterMembers::from_bytes(b"nonsense"), None);
    }
}
