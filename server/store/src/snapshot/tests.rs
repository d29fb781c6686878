//! What is written reads back the same in pieces of any size, and nothing that was changed passes.

use proptest::prelude::*;
use state::{LogIndex, Millis, Row};

use crate::encode::tests::sample::state_row;
use crate::snapshot::{Damage, Header, Reader, Summary, Writer};

fn header() -> Header {
    let (datacenter, version) = ("dc1".to_owned(), "0.1.0".to_owned());
    Header { incarnation: 77, datacenter, revision: LogIndex(5), term: 3, taken: Millis(1), version }
}

fn written(rows: &[Row]) -> Vec<u8> {
    let (mut writer, first) = Writer::begin(&header());
    let mut bytes = first.to_vec();
    rows.iter().filter_map(|row| writer.push(row)).for_each(|piece| bytes.extend_from_slice(&piece));
    bytes.extend_from_slice(&writer.finish());
    bytes
}

fn read(bytes: &[u8], piece: usize) -> Result<(Vec<Row>, Summary), Damage> {
    let (mut reader, mut rows) = (Reader::default(), Vec::new());
    for piece in bytes.chunks(piece) {
        reader.push(piece);
        while let Some(part) = reader.next_part()? {
            rows.extend(part);
        }
    }
    Ok((rows, reader.finish()?))
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(state_row(), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_reads_back_the_same_in_pieces_of_any_size(rows in rows(), piece in 1usize..3000) {
        let bytes = written(&rows);
        let (again, summary) = read(&bytes, piece).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{rows:?}"));
        prop_assert_eq!(&summary.header, &header());
        prop_assert_eq!((summary.rows, summary.bytes), (rows.len() as u64, bytes.len() as u64));
        prop_assert_eq!(summary.counts.values().map(|count| count.rows).sum::<u64>(), rows.len() as u64);
        prop_assert_eq!(&summary.digest[..], &bytes[bytes.len() - 32..]);
    }

    #[test]
    fn one_flipped_bit_is_found_where_it_is(rows in rows(), at: prop::sample::Index, bit in 0u8..8, piece in 1usize..3000) {
        let mut bytes = written(&rows);
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        match read(&bytes, piece) {
            Ok(_) => prop_assert!(false, "byte {} of {}, bit {}", place, bytes.len(), bit),
            Err(Damage::Changed { from, to, .. }) => prop_assert!((from..to).contains(&(place as u64)), "{}: {}..{}", place, from, to),
            Err(Damage::Foreign) => prop_assert!(place < 8),
            Err(Damage::Version { .. }) => prop_assert!((8..12).contains(&place)),
            Err(other) => prop_assert!(false, "byte {}: {}", place, other),
        }
    }

    #[test]
    fn a_cut_anywhere_is_found(rows in rows(), at: prop::sample::Index, piece in 1usize..3000) {
        let bytes = written(&rows);
        let len = at.index(bytes.len());
        let found = matches!(read(&bytes[..len], piece), Err(Damage::Cut { at, .. }) if at == len as u64);
        prop_assert!(found, "{}", len);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes, 7);
        let _ = read(&[&written(&[])[..50], &bytes].concat(), 7);
    }
}

#[test]
fn what_follows_the_end_is_not_overlooked() {
    let mut bytes = written(&[]);
    let at = bytes.len() as u64;
    bytes.push(0);
    assert_eq!(read(&bytes, 1000).unwrap_err(), Damage::Longer { at });
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = written(&[]);
    bytes[8] = 9;
    assert_eq!(read(&bytes, 1000).unwrap_err(), Damage::Version { found: 9 });
    assert!(matches!(read(b"", 1).unwrap_err(), Damage::Cut { at: 0, .. }));
    assert_eq!(read(b"{\"key\"", 1).unwrap_err(), Damage::Foreign);
}

#[test]
fn parts_are_as_long_as_they_should_be() {
    let value = vec![7; 1 << 20];
    let row = |n: usize| Row::Kv(state::KvEntry::new(n.to_string().as_bytes(), &value[..n], Default::default()));
    let (mut writer, _) = Writer::begin(&header());
    let pieces: Vec<usize> = [10, 20, 1 << 20, 30].into_iter().filter_map(|n| writer.push(&row(n))).map(|piece| piece.len()).collect();
    assert_eq!(pieces.len(), 1, "small rows wait for others, a large one goes at once");
    assert!(pieces[0] > 1 << 20);
}
