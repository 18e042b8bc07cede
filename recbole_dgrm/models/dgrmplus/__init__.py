"""DGRMPlus: DGRM over item profiles, blended with another model; nothing here is in the paper."""
