//! What a commit of a window to the store costs, in a folder of the temporary directory.
//!
//! `cargo bench -p smtpflow-tests --bench store`; `TMPDIR` chooses the disk.

use smtp_user::model::Folded;
use smtp_user::store::{Committed, Store};
use smtpflow_tests::cost::{measure, median, resident_mib};
use smtpflow_tests::windows::{Order, window};

const ROUNDS: u64 = 5;
const SOURCES: [u32; 3] = [10_000, 131_072, 1_000_000];

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    println!("in {}", folder.path().display());
    for number in SOURCES {
        println!("{number} sources, medians of {ROUNDS}");
        let path = folder.path().join(format!("{number}.db"));
        let open = || Store::open(&path, number).unwrap_or_else(|failure| panic!("{failure}"));
        let mut store = open();
        let mut given = window(1, number, Order::Table);
        let mut commit = |store: &mut Store| {
            let (committed, cost) = measure(|| store.commit(1, &given, &Folded::default()));
            assert_eq!(committed, Committed::Stored);
            given.epoch += 1;
            cost
        };
        println!("  first commit     {}", commit(&mut store));
        let (mut commits, mut tidies) = (Vec::new(), Vec::new());
        tidies.push(measure(|| store.tidy()).1);
        for _ in 0..ROUNDS {
            commits.push(commit(&mut store));
            tidies.push(measure(|| store.tidy()).1);
        }
        println!("  commit           {}", median(&commits));
        println!("  tidy             {}", median(&tidies));
        println!("  resident with the window {:.1} MiB", resident_mib());
        drop(store);
        let bytes = std::fs::metadata(&path).expect("a file").len();
        println!("  file             {:.1} MB", bytes as f64 / 1e6);
        let (mut store, cost) = measure(open);
        println!("  open, with check {cost}");
        let mut loaded = 0;
        let ((), cost) = measure(|| {
            store
                .load(|_| loaded += 1)
                .map(|_| ())
                .unwrap_or_else(|failure| panic!("{failure}"));
        });
        println!("  load             {cost}");
        assert_eq!(loaded, number);
        assert_eq!(
            store.commit(1, &window(1, 1, Order::Table), &Folded::default()),
            Committed::Again
        );
    }
}
