//! What `doctor` tells.

/// One thing that is not as it should be.
pub struct Finding {
    /// Whether it stops the cluster from working as promised.
    pub is_serious: bool,
    /// What is wrong.
    pub text: String,
    /// What to do about it.
    pub advice: String,
}
