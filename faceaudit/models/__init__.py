"""Networks that predict attributes from face crops, and the bundles they are saved in.

``backbones`` holds the trunks; ``heads`` makes networks of them. Bundles run without torch, which
is imported only where a network is built.
"""
