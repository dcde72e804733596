-- The lab server's databases, made when PostgreSQL starts for the first time. Change: nothing.
CREATE DATABASE catalog;
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
