//! Test programs whose tests need more than a Rust toolchain, or more time than `cargo test` has.
//!
//! A test that can't be run here is counted as ignored, with the reason beside its name and once more
//! at the end: what was not tried never looks as if it had passed. With `CI=true` it fails. Heavy tests
//! are ignored unless `-- --include-ignored` asks for them.
//!
//! A program of this kind has `harness = false` in its `Cargo.toml`. Its modules list their tests with
//! [`tests!`], and its `main` hands them to [`Program`]. What the built-in harness takes and prints is
//! taken and printed here too, by `libtest-mimic`; what a test [tells](tell), and its panic, are shown
//! when it fails.
//!
//! Beside that [`sources`] reads a crate as text, for its test of house rules.

mod left_out;
mod older;
mod output;
mod program;
mod shared;
pub mod sources;

pub use left_out::{Need, program_is_missing};
pub use older::older;
pub use output::tell;
pub use program::{Program, Test};
pub use shared::Shared;

/// The tests of a module: what they need, then their names.
///
/// A function that is in no list is dead code, which the compiler tells.
#[macro_export]
macro_rules! tests {
    ([$($need:expr),* $(,)?], $($name:ident),+ $(,)?) => {{
        static NEEDS: &[&$crate::Need] = &[$(&$need),*];
        vec![$($crate::Test::new(concat!(module_path!(), "::", stringify!($name)), NEEDS, $name)),+]
    }};
}

/// The same for tests that stand on something [`Shared`], which each is given.
#[macro_export]
macro_rules! stories {
    ([$($need:expr),* $(,)?], $shared:expr, $($name:ident),+ $(,)?) => {{
        static NEEDS: &[&$crate::Need] = &[$(&$need),*];
        let shared: &'static $crate::Shared<_> = $shared;
        vec![$($crate::Test::new(
            concat!(module_path!(), "::", stringify!($name)),
            NEEDS,
            move || shared.with(|shared| $name(shared)),
        )),+]
    }};
}
