//! Routes

use super::super::model::Route;
use super::Writer;

impl Writer {
    pub fn route(&mut self, route: &Route) {
        self.line(route.to_string());
    }
}
