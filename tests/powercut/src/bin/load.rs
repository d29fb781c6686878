//! `powercut-load DIR SEED STEPS`: the load on the store that the power is cut under.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seed, steps] = &arguments[..] else { anyhow::bail!("usage: powercut-load DIR SEED STEPS") };
    powercut::load::drive(Path::new(dir), seed.parse()?, steps.parse()?)
}
