"""Quality of retrieval: BEIR sets, ranking metrics, and answers by passages alone."""
