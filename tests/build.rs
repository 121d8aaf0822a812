//! Tells the tests where the kernel objects are that `smtp-user/build.rs` has built.

fn main() {
    // Set by cargo from the `links` key of smtp-user.
    let objects = std::env::var("DEP_SMTP_EBPF_OBJECTS")
        .expect("smtp-user/build.rs says where the kernel objects are");
    println!("cargo:rustc-env=SMTPFLOW_OBJECTS={objects}");
    println!("cargo:rerun-if-changed=build.rs");
}
