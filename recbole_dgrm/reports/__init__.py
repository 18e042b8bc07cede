"""From records of runs to statistics, significance tests, figures and pages."""
