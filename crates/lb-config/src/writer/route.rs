//! Routes

use super::Writer;
use lb_model::config::Route;

impl Writer {
    pub fn route(&mut self, route: &Route) {
        self.line(route.to_string());
    }
}
