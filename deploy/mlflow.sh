#!/usr/bin/env bash
# MLflow of a cluster, with accounts, on the PostgreSQL of this machine: deploy/mlflow.sh STORAGE [PORT]
#
# Listens on 127.0.0.1 alone; artifacts go to STORAGE/mlartifacts. May be run again: what is there stays, and a server
# that answers already is left alone. The account and its password are in ~/.mlflow/credentials, where MLflow's client,
# and with it linsweep, looks for them.
set -euo pipefail

storage=${1:?"usage: deploy/mlflow.sh STORAGE [PORT]"}
port=${2:-5000}
state=$HOME/.linsweep
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="$here/.venv/bin:$PATH"
umask 077

answers() { curl --silent --fail --max-time 2 "http://127.0.0.1:$port/health" > /dev/null; }

if answers; then
    echo "MLflow answers on 127.0.0.1:$port already"
    exit 0
fi

mkdir -p "$state" "$HOME/.mlflow" "$storage/mlartifacts"
# Through PostgreSQL's socket and by this account's name: there is no password to the database.
account=$(id -un)
sudo -u postgres psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --set account="$account" postgres << 'SQL'
SELECT format('CREATE ROLE %I LOGIN', :'account')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'account') \gexec
SELECT format('CREATE DATABASE %I OWNER %I', name, :'account') FROM (VALUES ('mlflow'), ('mlflow_accounts')) AS v (name)
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
SQL

secret() { openssl rand -hex 24; }
[ -s "$state/session-key" ] || secret > "$state/session-key"
[ -s "$HOME/.mlflow/credentials" ] || cat > "$HOME/.mlflow/credentials" << EOF
[mlflow]
mlflow_tracking_username = admin
mlflow_tracking_password = $(secret)
EOF
cat > "$state/accounts.ini" << EOF
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = postgresql+psycopg:///mlflow_accounts
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
EOF

MLFLOW_FLASK_SERVER_SECRET_KEY=$(cat "$state/session-key")
MLFLOW_AUTH_ADMIN_PASSWORD=$(sed -n 's/^mlflow_tracking_password = //p' "$HOME/.mlflow/credentials")
export MLFLOW_FLASK_SERVER_SECRET_KEY MLFLOW_AUTH_ADMIN_PASSWORD
export MLFLOW_AUTH_CONFIG_PATH=$state/accounts.ini
# MLflow's model serving, which nothing here uses.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false

# Under the names by which a browser at the other end of an SSH tunnel, or a program on this machine, asks for it.
setsid nohup mlflow server \
    --app-name basic-auth \
    --backend-store-uri postgresql+psycopg:///mlflow \
    --artifacts-destination "$storage/mlartifacts" \
    --host 127.0.0.1 --port "$port" --workers 2 \
    --allowed-hosts "localhost:$port,127.0.0.1:$port" \
    >> "$state/mlflow.log" 2>&1 < /dev/null &
server=$!

for _ in $(seq 180); do
    if answers; then
        echo "MLflow on 127.0.0.1:$port; account and password in ~/.mlflow/credentials"
        exit 0
    fi
    kill -0 "$server" 2> /dev/null || break
    sleep 1
done
echo "MLflow did not start; $state/mlflow.log ends with:" >&2
tail -n 20 "$state/mlflow.log" >&2
exit 1
