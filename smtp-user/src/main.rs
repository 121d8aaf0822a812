//! stub
static OBJ: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/smtpflow-xdp"));
fn main() { 
    let mut l = aya::EbpfLoader::new();
    l.verifier_log_level(aya::VerifierLogLevel::STATS);
    let mut e = l.load(OBJ).unwrap();
    for n in ["smtpflow","smtpflow_frags"] {
    let p: &mut aya::programs::Xdp = e.program_mut(n).unwrap().try_into().unwrap();
    p.load().unwrap();
    println!("{n} {:?}", p.info().unwrap().verified_instruction_count());
    }
}
