"""One assigned partition: requests on their way in, answers on their way out."""
