//! See `smtpflow_tests::targets`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|case: &[u8]| smtpflow_tests::targets::complaints(case));
