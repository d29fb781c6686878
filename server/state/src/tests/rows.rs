//! Rows at rest: the tables can be taken apart into rows and put together again, and a command
//! names every row that it touched.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::model::commands;
use super::*;
use crate::{Row, RowKey, TablesBuilder};

/// Tables in a form that can be compared.
fn shape(tables: &Tables) -> Vec<String> {
    tables.rows().map(|row| format!("{row:?}")).collect()
}

proptest! {
    #[test]
    fn tables_come_back_from_their_rows(operations in commands(60)) {
        let mut machine = Machine::default();
        for operation in operations {
            machine.now += 60_000;
            machine.run(operation);
        }
        let mut builder = TablesBuilder::default();
        machine.tables.rows().for_each(|row| builder.push(row));
        let rebuilt = builder.finish().unwrap();
        prop_assert_eq!(shape(&rebuilt), shape(&machine.tables));
        for (name, view) in machine.tables.services() {
            let other = rebuilt.service(name).value.unwrap();
            prop_assert_eq!(other.index, view.index);
            prop_assert_eq!(other.tag_union(), view.tag_union());
            prop_assert_eq!(format!("{:?}", other.instances), format!("{:?}", view.instances));
        }
    }

    /// What a writer of rows does: it keeps a copy up to date by the touched rows alone.
    #[test]
    fn the_touched_rows_are_all_that_changed(operations in commands(60)) {
        let mut tables = Tables::default();
        let mut disk: BTreeMap<RowKey, Row> = BTreeMap::new();
        for (n, operation) in operations.into_iter().enumerate() {
            let mut effects = Effects::default();
            let command = Command { at: Millis(n as u64 * 120_000), operation };
            apply(&mut tables, LogIndex(n as u64 + 1), &command, &mut effects);
            for key in effects.rows.into_iter().chain([RowKey::Meta]) {
                match tables.row(&key) {
                    Some(row) => disk.insert(key, row),
                    None => disk.remove(&key),
                };
            }
        }
        let mut builder = TablesBuilder::default();
        disk.into_values().for_each(|row| builder.push(row));
        prop_assert_eq!(shape(&builder.finish().unwrap()), shape(&tables));
    }
}
