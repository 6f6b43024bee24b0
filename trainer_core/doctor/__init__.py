"""What a dataset is like before anything is trained on it: a report as data, as text and as a picture."""
