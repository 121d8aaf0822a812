//! How often a property is tried.

use proptest::test_runner::Config;

/// That often; a few times under Miri, which is a thousand times slower and looks at every access.
/// A failing case is in the message: a file of seeds would not outlive a change of strategy.
pub fn cases(usual: u32) -> Config {
    Config {
        cases: if cfg!(miri) { 2 } else { usual },
        failure_persistence: None,
        ..Config::default()
    }
}
