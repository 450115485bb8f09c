"""Grafana's dashboards as pictures: drawn with the components of Grafana's own packages, from a real Prometheus."""
