"""DGRMPlus: DGRM over items, blended with another model; nothing here is in the paper."""
