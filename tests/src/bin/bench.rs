//! The benchmark program; see [`renkei_tests::bench`].

fn main() -> anyhow::Result<()> {
    renkei_tests::bench::main(std::env::args().skip(1).collect())
}
