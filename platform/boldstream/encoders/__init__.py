"""Brain encoders: one folder a family, all seen through `boldstream.encoders.interface`."""
