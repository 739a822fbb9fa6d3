//! Notations, read and written as values. Pure.

pub mod backups;
pub mod hex;
pub mod records;
pub mod times;
pub mod words;
